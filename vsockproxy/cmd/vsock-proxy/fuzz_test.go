package main

import (
	"errors"
	"os"
	"testing"
)

// A configuration is either without mistakes, and every route can be served, or
// there is a list of them, each with a text.
func FuzzConfig(f *testing.F) {
	content, err := os.ReadFile(examples + "config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte("routes: [{name: a, listen: systemd, server_name: 443, allowlist: ['*.example.com:443']}]"))
	f.Add([]byte("routes: [{name: 1, name: a, listen: &a [], to_enclave: *a}]\n---\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		d, err := parseDocument("fuzzed", content)
		if err == nil {
			c := &config{}
			c.read(d)
			err = d.err()
			for _, r := range c.routes {
				if err == nil && r.proxy.Check() != nil {
					t.Errorf("a route that cannot be served: %+v", r)
				}
			}
			if err == nil && len(c.routes) == 0 {
				t.Error("no routes")
			}
		}
		var wrong mistakes
		if err != nil && (!errors.As(err, &wrong) || len(wrong) == 0 || wrong[0].text == "") {
			t.Errorf("%T %v", err, err)
		}
		if d != nil {
			isRuleFile(d.root)
		}
	})
}
