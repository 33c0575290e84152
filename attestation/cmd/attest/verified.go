package main

import (
	"fmt"
	"slices"

	"github.com/keyvouch/keyvouch/attestation"
)

// verified is the JSON of a document that was verified.
type verified struct {
	Verified   bool       `json:"verified"` // true
	Checked    checked    `json:"checked"`
	NotChecked []string   `json:"not_checked"` // of "debug-mode", "measurement", "nonce", "age"
	Document   *described `json:"document"`

	caveats []caveat
}

// checked says what the verdict rests on.
type checked struct {
	At          string `json:"at"`
	Historical  bool   `json:"historical"` // At is from --at
	RootSHA256  string `json:"root_sha256"`
	RootIsAWS   bool   `json:"root_is_aws"`
	Platform    string `json:"platform"`
	Measurement string `json:"measurement,omitempty"`
	PCRs        []int  `json:"pcrs"`
	Nonce       bool   `json:"nonce"`
	MaxAge      string `json:"max_age,omitempty"`

	age string
}

// caveat is something that a flag, or the lack of one, left unchecked.
type caveat struct{ name, text string }

func (f *verifyFlags) report(d *attestation.Document, policy attestation.Policy) *verified {
	var ders [][]byte
	chain := d.Chain()
	for _, c := range slices.Backward(chain) {
		ders = append(ders, c.Raw)
	}
	v := &verified{Verified: true, NotChecked: []string{}, Document: describe(&d.Claims, ders)}
	v.Checked = checked{
		At:          stamp(d.Checked.At),
		Historical:  d.Checked.Historical,
		RootSHA256:  fingerprint(d.Chain()[len(d.Chain())-1]),
		RootIsAWS:   v.Document.RootIsAWS,
		Platform:    policy.Platform.String(),
		Measurement: d.Checked.Measurement,
		PCRs:        append([]int{}, d.Checked.PCRs...),
		Nonce:       d.Checked.Nonce,
	}
	if f.allowDebug && d.Debug() {
		v.leave("debug-mode", "the enclave runs in debug mode, and --allow-debug accepts it: its PCRs say nothing about its image")
	}
	if f.anyMeasurement {
		v.leave("measurement", "--any-measurement: any image of any AWS customer passes")
	}
	for _, index := range policy.Platform.ImagePCRs() {
		if !f.anyMeasurement && !slices.Contains(d.Checked.PCRs, index) {
			v.leave("image", fmt.Sprintf("only PCR%v together stand for the whole image, and not all were compared", policy.Platform.ImagePCRs()))
			break
		}
	}
	if !d.Checked.Nonce {
		v.leave("nonce", "no --nonce: the document may be a replay")
	}
	if f.atDocument {
		v.leave("age", "--at document: the document may be old, and its certificates expired since")
	} else {
		maxAge := policy.MaxAge
		if maxAge == 0 {
			maxAge = attestation.DefaultMaxAge
		}
		v.Checked.MaxAge = maxAge.String()
		v.Checked.age = fmt.Sprintf("%v, at most %v", d.Checked.At.Sub(d.Timestamp), maxAge)
	}
	return v
}

func (v *verified) leave(name, text string) {
	v.NotChecked = append(v.NotChecked, name)
	v.caveats = append(v.caveats, caveat{name, text})
}

func (v *verified) write(t *text) {
	c, d := &v.Checked, v.Document
	t.heading("Checked")
	if c.RootIsAWS {
		t.line("root", "the AWS Nitro root")
	} else {
		t.line("root", "%s from --root, SHA-256 %s", quote(d.Certificates[0].Subject), c.RootSHA256)
	}
	historical := ""
	if c.Historical {
		historical = ", which --at says"
	}
	t.line("chain", "%d certificates, each signed by the one above and valid at %s%s", len(d.Certificates), c.At, historical)
	t.line("signature", "made with the key of the last of them")
	t.line("platform", "%s", c.Platform)
	if c.Platform == attestation.PlatformEnclave.String() && !d.DebugMode {
		t.line("debug mode", "off")
	}
	switch {
	case c.Measurement != "":
		t.line("measurement", "%s, by PCR%v", quote(c.Measurement), c.PCRs)
	case len(c.PCRs) > 0:
		t.line("measurement", "PCR%v are those given with --pcr", c.PCRs)
	}
	if c.Nonce {
		t.line("nonce", "the expected %d bytes", d.Nonce.Length)
	}
	if c.age != "" {
		t.line("age", "%s", c.age)
	}
	if len(v.caveats) > 0 {
		t.heading("NOT checked")
		for _, c := range v.caveats {
			t.line(c.name, "%s", c.text)
		}
	}
	d.write(t)
}
