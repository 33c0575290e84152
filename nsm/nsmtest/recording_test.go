package nsmtest

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

var update = flag.Bool("update", false, "record testdata/session.json again")

const sessionFile = "testdata/session.json"

// session is what the recording holds. Its requests depend on nothing.
func session(ctx context.Context, s *nsm.Session) (results []string, document []byte, err error) {
	add := func(v any, err error) error {
		results = append(results, fmt.Sprintf("%v", v))
		return err
	}
	d, err := s.Describe(ctx)
	if err := add(d, err); err != nil {
		return nil, nil, err
	}
	for i := range 3 {
		pcr, err := s.DescribePCR(ctx, i)
		if err := add(pcr, err); err != nil {
			return nil, nil, err
		}
	}
	value, err := s.ExtendPCR(ctx, 16, []byte("configuration"))
	if err := add(value, err); err != nil {
		return nil, nil, err
	}
	if err := s.LockPCR(ctx, 16); err != nil {
		return nil, nil, err
	}
	_, err = s.ExtendPCR(ctx, 16, []byte("more"))
	if err := add(err, nil); err != nil {
		return nil, nil, err
	}
	random := make([]byte, 32)
	n, err := s.Read(random)
	if err := add(random[:n], err); err != nil {
		return nil, nil, err
	}
	document, err = s.Attest(ctx, nsm.AttestationRequest{Nonce: []byte("nonce"), UserData: []byte("user data"), PublicKey: []byte("public key")})
	if err := add(document, err); err != nil {
		return nil, nil, err
	}
	return results, document, nil
}

// TestRecording replays testdata/session.json. To record it again, run
//
//	go test ./nsm/nsmtest -run TestRecording -update
func TestRecording(t *testing.T) {
	if *update {
		n := newNSM(t, Options{
			Image: []byte("keyvouch test image"), RoleARN: "arn:aws:iam::123456789012:role/test",
			ModuleID: "i-0123456789abcdef0-enc0123456789abcdef",
			Clock:    func() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) },
		})
		recorder := NewRecorder(n)
		s := nsm.NewSession(recorder)
		if _, _, err := session(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		recording, err := recorder.Recording()
		if err != nil {
			t.Fatal(err)
		}
		recording.Comment = "A session with the software NSM, made by TestRecording -update. The PKI that signed the document is lost."
		if err := recording.WriteFile(sessionFile); err != nil {
			t.Fatal(err)
		}
	}
	recording, err := LoadRecording(sessionFile)
	if err != nil {
		t.Fatal(err)
	}
	s := nsm.NewSession(recording.Replay())
	results, document, err := session(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 8 || !strings.Contains(results[5], "ReadOnlyIndex") {
		t.Errorf("%q", results)
	}
	// The recording has what a verifier needs.
	p := payloadOf(t, document)
	chain := Chain{Certificate: p["certificate"].([]byte)}
	for _, c := range p["cabundle"].([]any) {
		chain.CABundle = append(chain.CABundle, c.([]byte))
	}
	if err := verify(parse(t, chain), recording.Root, recording.Started); err != nil {
		t.Error(err)
	}
	if _, err := s.Describe(t.Context()); !errors.As(err, new(*Error)) || !strings.Contains(err.Error(), "ends after 9 exchanges") {
		t.Errorf("after the end: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestRecordAndReplay(t *testing.T) {
	recorder := NewRecorder(newNSM(t, Options{}))
	results, _, err := session(t.Context(), nsm.NewSession(recorder))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recorder.Send(nil); err == nil {
		t.Fatal("an empty request passes")
	}
	path := filepath.Join(t.TempDir(), "recording.json")
	if err := recorder.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	recording, err := LoadRecording(path)
	if err != nil {
		t.Fatal(err)
	}
	want, err := recorder.Recording()
	if err != nil {
		t.Fatal(err)
	}
	if len(recording.Exchanges) != len(want.Exchanges) || !recording.Root.Equal(want.Root) || !recording.Started.Equal(want.Started) {
		t.Errorf("got  %+v\nwant %+v", recording, want)
	}
	device := recording.Replay()
	again, _, err := session(t.Context(), nsm.NewSession(device))
	if err != nil || !reflect.DeepEqual(again, results) {
		t.Errorf("%v\ngot  %q\nwant %q", err, again, results)
	}
	_, err = device.Send(nil)
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonRecorded || !strings.Contains(err.Error(), "a request of 0 bytes") {
		t.Errorf("%v", err)
	}
}

func TestReplayMismatch(t *testing.T) {
	recording := &Recording{Exchanges: []Exchange{{Request: unhex(t, "69 47657452616e646f6d"), Response: []byte{1}}}}
	device := recording.Replay()
	response, err := device.Send(unhex(t, "6b 44657363726962654e534d"))
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonMismatch || response != nil {
		t.Fatalf("%x, %v", response, err)
	}
	for _, part := range []string{"exchange 0 of 1", "from byte 0", "DescribeNSM 6b", "GetRandom 69"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v: without %q", err, part)
		}
	}
	// A mismatch does not use up the exchange.
	response, err = device.Send(recording.Exchanges[0].Request)
	if err != nil || !bytes.Equal(response, []byte{1}) {
		t.Errorf("%x, %v", response, err)
	}
	response[0] = 9 // the caller's own
	if recording.Exchanges[0].Response[0] != 1 {
		t.Error("the recording changed")
	}
	if err := device.Close(); err != nil {
		t.Error(err)
	}
	if _, err := device.Send(nil); !errors.Is(err, nsm.ReasonClosed) {
		t.Errorf("%v", err)
	}
}

const oneExchange = `{"format":"keyvouch-nsm-recording/2","started":"2026-01-01T00:00:00Z","exchanges":[{"at":"2026-01-01T00:00:00Z","request":"00","response":"01"}]}`

func TestReadRecordingRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                      "",
		"not JSON":                     "{",
		"null":                         "null",
		"another version":              strings.Replace(oneExchange, "recording/2", "recording/3", 1),
		"unknown field":                strings.Replace(oneExchange, `"started"`, `"key":"","started"`, 1),
		"no start":                     strings.Replace(oneExchange, `"started":"2026-01-01T00:00:00Z",`, "", 1),
		"more data":                    oneExchange + "{}",
		"not hexadecimal":              strings.Replace(oneExchange, `"00"`, `"0g"`, 1),
		"odd hexadecimal":              strings.Replace(oneExchange, `"00"`, `"000"`, 1),
		"exchanges no list":            oneExchange[:strings.Index(oneExchange, "[")] + `{}}`,
		"exchanges null":               oneExchange[:strings.Index(oneExchange, "[")] + `null}`,
		"unknown field in an exchange": strings.Replace(oneExchange, `"at"`, `"key":"","at"`, 1),
		"root":                         strings.Replace(oneExchange, `"started"`, `"root":"00","started"`, 1),
		"response and error":           strings.Replace(oneExchange, `"response"`, `"error":"x","response"`, 1),
		"neither":                      strings.Replace(oneExchange, `,"response":"01"`, "", 1),
		"long request":                 strings.Replace(oneExchange, `"00"`, `"`+strings.Repeat("00", maxRecordedRequest+1)+`"`, 1),
		"long response":                strings.Replace(oneExchange, `"01"`, `"`+strings.Repeat("00", nsm.MaxResponseSize+1)+`"`, 1),
		"many exchanges":               strings.Replace(oneExchange, `[{`, `[`+strings.Repeat(`{"at":"2026-01-01T00:00:00Z","request":"00","response":"01"},`, MaxExchanges)+`{`, 1),
	} {
		recording, err := ReadRecording(strings.NewReader(text))
		var e *Error
		if !errors.As(err, &e) || e.Reason != ReasonRecording || recording != nil {
			t.Errorf("%s: %v, %v", name, recording, err)
		}
	}
	var e *Error
	if _, err := LoadRecording(filepath.Join(t.TempDir(), "none")); !errors.As(err, &e) || e.Reason != ReasonRecording || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// Of a file with too many exchanges no more is decoded than of a good one.
func TestReadRecordingMemory(t *testing.T) {
	const limit = 32 << 20
	text := strings.Replace(oneExchange, "[{", "["+strings.Repeat("{},", 300_000)+"{", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadRecording(strings.NewReader(text))
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > limit {
		t.Errorf("%v after %d bytes of memory, want an error and at most %d", err, used, limit)
	}
}

// Run it with -fuzzminimizetime 1x: otherwise Go's fuzzer may spend a minute on
// making each new input smaller, and counts no executions meanwhile. The seeds
// are short for the same reason.
func FuzzReadRecording(f *testing.F) {
	f.Add([]byte(oneExchange))
	f.Add([]byte(oneFailure))
	f.Add([]byte(strings.Replace(oneExchange, "recording/2", "recording/1", 1)))
	recording, err := LoadRecording(sessionFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(strings.Replace(oneExchange, `"started"`, fmt.Sprintf(`"root":"%x","started"`, recording.Root.Raw), 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		recording, err := ReadRecording(bytes.NewReader(text))
		if err != nil {
			if recording != nil {
				t.Fatal("a recording beside the error")
			}
			return
		}
		var b bytes.Buffer
		if err := recording.Write(&b); err != nil {
			t.Fatal(err)
		}
		written := bytes.Clone(b.Bytes())
		again, err := ReadRecording(&b)
		if err != nil {
			t.Fatal(err)
		}
		var c bytes.Buffer
		if err := again.Write(&c); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.Bytes(), written) {
			t.Fatalf("written again:\n%s\nfirst:\n%s", &c, written)
		}
		for i := range again.Exchanges {
			device := (&Recording{Exchanges: again.Exchanges[i : i+1]}).Replay()
			response, err := device.Send(recording.Exchanges[i].Request)
			if (err == nil) == (response == nil) || (err == nil) == (recording.Exchanges[i].Response == nil) {
				t.Fatalf("exchange %d is replayed as %x, %v", i, response, err)
			}
		}
	})
}
