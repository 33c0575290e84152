package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Prefix begins each line of a guest's report, to tell it from what the kernel
// writes to the same console.
const Prefix = "@e2e "

// Results of a check.
const (
	Passed  = "pass"
	Failed  = "FAIL"
	Skipped = "skip"
)

// Check is the outcome of one check in the guest.
type Check struct {
	// Name is the area and what is checked there, "nsm/extend".
	Name string `json:"name"`
	// Result is Passed, Failed or Skipped.
	Result string `json:"result"`
	// Detail says what was seen, why it failed or why it was skipped.
	Detail string `json:"detail,omitempty"`
	// Millis is how long it took. The processor is emulated, so it says little.
	Millis int64 `json:"ms"`
}

// Line is one line of a guest's report: one of its fields is set.
type Line struct {
	Check *Check `json:"check,omitempty"`
	// Facts are values that the host judges or shows, by name.
	Facts map[string]string `json:"facts,omitempty"`
	// Recording is a part of the recording of NSM requests, which is a file
	// of package nsmtest, compressed by gzip.
	Recording []byte `json:"recording,omitempty"`
	// End is the last line: how many lines came before it. Without it the guest
	// died on the way.
	End *int `json:"end,omitempty"`
}

// Encode returns the line as it goes over the console.
func (l Line) Encode() ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(Prefix), text...), '\n'), nil
}

// ParseLine reads a line of a console. ok is false if it is not one of a report.
func ParseLine(text []byte) (l Line, ok bool, err error) {
	_, text, ok = bytes.Cut(text, []byte(Prefix))
	if !ok {
		return Line{}, false, nil
	}
	if err := json.Unmarshal(bytes.TrimSpace(text), &l); err != nil {
		return Line{}, true, fmt.Errorf("a damaged line in the guest's report: %w", err)
	}
	return l, true, nil
}
