package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// The statements are ones that a KMS evaluates, with the meaning intended.
func TestPolicyIsKMSs(t *testing.T) {
	fixtures(t)
	stdout, stderr, code := attest(t, "policy", "--measurement", "release.json", "--measurement", "other.json",
		"--principal", "arn:aws:iam::111122223333:role/app", "--key-action", "kms:Decrypt", "--key-action", "kms:GenerateDataKey")
	if code != 0 {
		t.Fatal(stderr)
	}
	policy, err := kmstest.ParsePolicy([]byte(`{"Version": "2012-10-17", "Statement": ` + stdout + `}`))
	if err != nil {
		t.Fatal(err)
	}
	images := []string{"release", "another release"}
	if len(policy.Statements) != len(images) {
		t.Fatalf("%d statements", len(policy.Statements))
	}
	for i, s := range policy.Statements {
		if s.Effect != kmstest.Allow || !slices.Equal(s.Principals, []string{"arn:aws:iam::111122223333:role/app"}) ||
			!slices.Equal(s.Actions, []string{"kms:Decrypt", "kms:GenerateDataKey"}) {
			t.Errorf("statement %d is %+v", i, s)
		}
		pcr0, pcr1, pcr2 := nsmtest.Measure([]byte(images[i]))
		want := []kmstest.Condition{kmstest.PCREquals(0, pcr0), kmstest.PCREquals(1, pcr1), kmstest.PCREquals(2, pcr2)}
		if len(s.Conditions) != len(want) {
			t.Fatalf("statement %d has the conditions %+v", i, s.Conditions)
		}
		for _, w := range want {
			if !slices.ContainsFunc(s.Conditions, func(c kmstest.Condition) bool {
				return c.Operator == w.Operator && c.Key == w.Key && slices.Equal(c.Values, w.Values)
			}) {
				t.Errorf("statement %d lacks the condition %+v", i, w)
			}
		}
	}
}

// A placeholder that was forgotten opens nothing.
func TestPlaceholderIsRefused(t *testing.T) {
	fixtures(t)
	stdout, _, _ := attest(t, "policy", "--measurement", "release.json", "--key-action", "kms:Decrypt")
	_, err := kmstest.ParsePolicy([]byte(`{"Version": "2012-10-17", "Statement": ` + stdout + `}`))
	if err == nil || !strings.Contains(err.Error(), placeholder) {
		t.Errorf("the error is %v", err)
	}
}

// fixtures makes the scripts' files and makes their folder the working one.
func fixtures(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := writeFixtures(&testscript.Env{WorkDir: dir}); err != nil {
		t.Fatal(err)
	}
	if t, ok := t.(*testing.T); ok {
		t.Chdir(dir)
	}
	return dir
}

// attest runs the program in this process.
func attest(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return attestFrom("", args...)
}

func attestFrom(stdin string, args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	p := program{strings.NewReader(stdin), &out, &errs}
	code = p.run(args)
	return out.String(), errs.String(), code
}

func readFixture(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
