package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// report records the run, as text while it happens or as JSON at the end.
type report struct {
	Result   string    `json:"result"`
	Tamper   string    `json:"tamper,omitempty"`
	SHA256   string    `json:"secret_sha256,omitempty"`
	Error    string    `json:"error,omitempty"`
	Refusals []refusal `json:"refusals,omitempty"`
	Steps    []step    `json:"steps"`

	out io.Writer // nil if only JSON is wanted
}

// How a run ends.
const (
	resultReleased = "released"
	resultRefused  = "refused"
	resultFailed   = "failed"
)

// step is an action of one of the parties.
type step struct {
	Actor string `json:"actor"`
	Did   string `json:"did"`
	Facts []fact `json:"facts,omitempty"`
}

type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// refusal is an attack that failed.
type refusal struct {
	By      string `json:"by"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (r *report) step(actor, did string, facts ...fact) {
	r.Steps = append(r.Steps, step{actor, did, facts})
	r.printf("%-14s%s\n", actor, did)
	for _, f := range facts {
		r.printf("%-14s  %-11s %s\n", "", f.Name, f.Value)
	}
}

func (r *report) refused(by, reason, message string) {
	r.Refusals = append(r.Refusals, refusal{by, reason, message})
	r.printf("%-14sREFUSED by %s: %s\n", "", by, reason)
	r.printf("%-14s  %s\n", "", message)
}

// finish sets the result.
func (r *report) finish(err error) {
	switch {
	case err != nil:
		r.Result, r.Error = resultFailed, err.Error()
	case len(r.Refusals) > 0 && r.SHA256 == "":
		r.Result = resultRefused
		r.printf("\nrefused: no secret was released\n")
	default:
		r.Result = resultReleased
		r.printf("\nreleased: the secret's SHA-256 is %s\n", r.SHA256)
	}
}

func (r *report) printf(format string, args ...any) {
	if r.out != nil {
		fmt.Fprintf(r.out, format, args...)
	}
}

func (r *report) writeJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}
