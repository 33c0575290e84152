package main

import "testing"

// A refusal by one party doesn't hide a release by another.
func TestReleaseDespiteRefusal(t *testing.T) {
	r := &report{Tamper: "image"}
	r.refused("the verifier", "measurement", "")
	if err := mustBeRefused(r); err != nil {
		t.Error(err)
	}
	r.finish(nil)
	if r.Result != resultRefused {
		t.Errorf("result %q", r.Result)
	}

	r.SHA256 = "00"
	if mustBeRefused(r) == nil {
		t.Error("an attack that ended with the secret counts as refused")
	}
	r.finish(nil)
	if r.Result != resultReleased {
		t.Errorf("result %q of a run that released the secret", r.Result)
	}
}
