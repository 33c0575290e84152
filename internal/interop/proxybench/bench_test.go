//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is the program when a test has started it as our proxy.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestOursAlone(t *testing.T) {
	ours, err := ourProxy("")
	if err != nil {
		t.Fatal(err)
	}
	s := settings{
		size:     size{bulk: 1 << 20, connect: time.Millisecond, exchanges: 32, idle: 10},
		rounds:   2,
		legs:     legNames,
		measures: allMeasures,
		proxies:  []proxy{ours},
	}
	r, err := s.run(t.Context(), newToolbox(""), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range r.Rows {
		values := row.Values[oursName]
		if len(values) != s.rounds {
			t.Errorf("%s, %s: %d values in %d rounds", row.Leg, row.Figure, len(values), s.rounds)
		}
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				t.Errorf("%s, %s: %v", row.Leg, row.Figure, v)
			}
			if row.Figure == "idle descriptors/connection" && v != 2 {
				t.Errorf("%s: %v descriptors for a connection", row.Leg, v)
			}
		}
	}
	var table, encoded bytes.Buffer
	if err := r.writeTable(&table); err != nil {
		t.Error(err)
	}
	for _, row := range r.Rows {
		if !strings.Contains(table.String(), row.Figure) {
			t.Errorf("the table lacks %q:\n%s", row.Figure, &table)
		}
	}
	if err := r.writeJSON(&encoded); err != nil {
		t.Error(err)
	}
	var decoded results
	if err := json.Unmarshal(encoded.Bytes(), &decoded); err != nil || len(decoded.Rows) != len(r.Rows) {
		t.Errorf("decoded %d of %d rows: %v", len(decoded.Rows), len(r.Rows), err)
	}
}

func TestProxyThatDoesNotStart(t *testing.T) {
	ours, err := ourProxy("cat {listen} {target}")
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(t.Context(), ours, newToolbox(""), t.TempDir(), legUnix)
	if err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("got %v, want what the program printed", err)
	}
}

// The judgement is by the median of the ratios within each round.
func TestJudge(t *testing.T) {
	f := figure{name: "f", targets: []target{
		{peer: "haproxy", bound: 0.5},
		{peer: "haproxy", least: true, bound: 0.5},
		{peer: "socat", bound: 1}, // not measured
		{bound: 2},
	}}
	s := settings{rounds: 3, legs: []string{legTCP}, measures: []measure{{"m", []figure{f}, nil}}}
	r := newResults(s)
	for _, values := range [][2]float64{{1, 1}, {2, 5}, {3, 10}} {
		r.add(legTCP, f, proxy{name: oursName}, values[0])
		r.add(legTCP, f, proxy{name: "haproxy"}, values[1])
	}
	r.judge()
	got := fmt.Sprint(r.Rows[0].Targets)
	want := "[<= 0.5 x haproxy: met >= 0.5 x haproxy: missed <= 2: met]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if ratio := r.Rows[0].Ratios["haproxy"]; ratio != (spread{0.3, 0.4}) {
		t.Errorf("ratio %v", ratio)
	}
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0"
	for _, test := range []struct {
		stat string
		want string
	}{
		{"9 (socat)" + rest, "9 150ms 77 <nil>"},
		{"9 (a) b) (c)" + rest, "9 150ms 77 <nil>"},
	} {
		m, group, err := parseStat(9, []byte(test.stat))
		if got := fmt.Sprintln(m.pid, m.reaped, group, err); strings.TrimSpace(got) != test.want {
			t.Errorf("%q: got %s, want %s", test.stat, got, test.want)
		}
	}
	for _, stat := range []string{"", "9 (socat)", "9 (socat) S 1", "9 socat S 1 77"} {
		if _, _, err := parseStat(9, []byte(stat)); err == nil {
			t.Errorf("%q: no error", stat)
		}
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{
		"surplus",
		"-rounds=-1",
		"-legs=udp",
		"-legs=",
		"-measures=speed",
		"-measures=",
		"-peers=envoy",
		"-ours=proxy",
		"-ours=proxy,{listen}",
	} {
		if err := bench(context.Background(), []string{args}); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	got, err := pick("socat, haproxy", peerProxies, proxy.String)
	if names := namesOf(got); err != nil || !slices.Equal(names, []string{"haproxy", "socat"}) {
		t.Errorf("got %v, %v", names, err)
	}
}
