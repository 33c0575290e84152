//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// results are the figures of all rounds.
type results struct {
	Rounds   int               `json:"rounds"`
	Cores    int               `json:"cores"`
	Versions map[string]string `json:"versions"`
	Rows     []*row            `json:"rows"`

	proxies []proxy
}

// row is one figure on one leg, for all proxies.
type row struct {
	Leg    string `json:"leg"`
	Figure string `json:"figure"`
	// Values are by proxy and round.
	Values  map[string][]float64 `json:"values"`
	Ratios  map[string]spread    `json:"ours_to_peer"`
	Targets []verdict            `json:"targets,omitempty"`

	figure figure
}

// spread is over the rounds.
type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
}

// verdict compares the median over the rounds with a target.
type verdict struct {
	Peer  string  `json:"peer,omitempty"` // without one, of the figure itself
	Least bool    `json:"at_least"`
	Bound float64 `json:"bound"`
	spread
	Met bool `json:"met"`
}

func newResults(s settings) *results {
	r := &results{Rounds: s.rounds, Cores: runtime.NumCPU(), proxies: s.proxies}
	for _, leg := range s.legs {
		for _, m := range s.measures {
			for _, f := range m.figures {
				r.Rows = append(r.Rows, &row{Leg: leg, Figure: f.name, Values: map[string][]float64{}, figure: f})
			}
		}
	}
	return r
}

func (r *results) add(leg string, f figure, p proxy, value float64) {
	for _, row := range r.Rows {
		if row.Leg == leg && row.Figure == f.name {
			row.Values[p.name] = append(row.Values[p.name], value)
		}
	}
}

func spreadOf(values []float64) spread { return spread{slices.Min(values), middle(values)} }

// judge fills in ratios and verdicts.
func (r *results) judge() {
	for _, row := range r.Rows {
		ours := row.Values[oursName]
		row.Ratios = map[string]spread{}
		for peer, theirs := range row.Values {
			if peer == oursName {
				continue
			}
			ratios := make([]float64, len(ours))
			for i := range ours {
				ratios[i] = ours[i] / theirs[i]
			}
			row.Ratios[peer] = spreadOf(ratios)
		}
		row.Targets = nil
		for _, t := range row.figure.targets {
			got, measured := row.Ratios[t.peer]
			if t.peer == "" {
				got, measured = spreadOf(ours), true
			}
			if !measured {
				continue
			}
			met := got.Median <= t.bound
			if t.least {
				met = got.Median >= t.bound
			}
			row.Targets = append(row.Targets, verdict{t.peer, t.least, t.bound, got, met})
		}
	}
}

func (v verdict) String() string {
	sign, verb := "<=", "missed"
	if v.Least {
		sign = ">="
	}
	if v.Met {
		verb = "met"
	}
	if v.Peer == "" {
		return fmt.Sprintf("%s %g: %s", sign, v.Bound, verb)
	}
	return fmt.Sprintf("%s %g x %s: %s", sign, v.Bound, v.Peer, verb)
}

func (r *results) writeJSON(w io.Writer) error {
	r.judge()
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

func (r *results) writeTable(w io.Writer) error {
	r.judge()
	fmt.Fprintf(w, "Rounds: %d, cores: %d. Ours: min / median. Others: median (ours to it: min / median of the rounds' ratios).\n", r.Rounds, r.Cores)
	for _, p := range r.proxies {
		if v := r.Versions[p.name]; v != "" {
			fmt.Fprintf(w, "%s: %s\n", p.name, v)
		}
	}
	leg := ""
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range r.Rows {
		if row.Leg != leg {
			leg = row.Leg
			fmt.Fprintf(table, "\n%s", strings.ToUpper(leg))
			for _, p := range r.proxies {
				fmt.Fprintf(table, "\t%s", p)
			}
			fmt.Fprint(table, "\ttarget\n")
		}
		fmt.Fprint(table, row.Figure)
		for _, p := range r.proxies {
			s := spreadOf(row.Values[p.name])
			if p.name == oursName {
				fmt.Fprintf(table, "\t%.*f / %.*f", row.figure.decimal, s.Min, row.figure.decimal, s.Median)
				continue
			}
			ratio := row.Ratios[p.name]
			fmt.Fprintf(table, "\t%.*f (%.2f / %.2f)", row.figure.decimal, s.Median, ratio.Min, ratio.Median)
		}
		var verdicts []string
		for _, v := range row.Targets {
			verdicts = append(verdicts, v.String())
		}
		fmt.Fprintf(table, "\t%s\n", strings.Join(verdicts, ", "))
	}
	return table.Flush()
}
