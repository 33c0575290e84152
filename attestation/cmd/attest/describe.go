package main

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// described is what a document says, for JSON and text alike.
type described struct {
	ModuleID      string                  `json:"module_id"`
	Platform      string                  `json:"platform"`
	Timestamp     string                  `json:"timestamp"`
	DebugMode     bool                    `json:"debug_mode"`
	PCRs          map[int]attestation.PCR `json:"pcrs"`
	UserData      *field                  `json:"user_data"`
	Nonce         *field                  `json:"nonce"`
	PublicKey     *field                  `json:"public_key"`
	UnknownFields []string                `json:"unknown_fields,omitempty"`
	Certificates  []certificate           `json:"certificates"` // root first
	RootIsAWS     bool                    `json:"root_is_aws"`

	claims *attestation.Claims
}

// certificate is one of the chain.
type certificate struct {
	Place     string `json:"place"` // "cabundle[0]" or "certificate"
	SHA256    string `json:"sha256"`
	Subject   string `json:"subject_common_name"`
	Serial    string `json:"serial_number"` // hexadecimal
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
	Key       string `json:"key"`
	Algorithm string `json:"signature_algorithm"`
	Error     string `json:"error,omitempty"` // why the rest is empty

	life time.Duration
}

// describe describes a document with the DER of its certificates, root first.
func describe(c *attestation.Claims, chain [][]byte) *described {
	d := &described{
		ModuleID:      c.ModuleID,
		Platform:      c.Platform.String(),
		Timestamp:     stamp(c.Timestamp),
		DebugMode:     c.Debug(),
		PCRs:          c.PCRs,
		UserData:      describeField(c.UserData),
		Nonce:         describeField(c.Nonce),
		PublicKey:     describeField(c.PublicKey),
		UnknownFields: c.UnknownFields,
		claims:        c,
	}
	for i, der := range chain {
		place := fmt.Sprintf("cabundle[%d]", i)
		if i == len(chain)-1 {
			place = "certificate"
		}
		d.Certificates = append(d.Certificates, describeCertificate(place, der))
	}
	d.RootIsAWS = string(chain[0]) == string(attestation.AWSNitroRoot().Raw)
	return d
}

func describeCertificate(place string, der []byte) certificate {
	d := certificate{Place: place, SHA256: fmt.Sprintf("%x", sha256.Sum256(der))}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		d.Error = escape(err.Error(), isASCII)
		return d
	}
	d.Subject = c.Subject.CommonName
	d.Serial = fmt.Sprintf("%x", c.SerialNumber)
	d.NotBefore, d.NotAfter = stamp(c.NotBefore), stamp(c.NotAfter)
	d.Key = keyForm(c.PublicKey)
	d.Algorithm = c.SignatureAlgorithm.String()
	d.life = c.NotAfter.Sub(c.NotBefore)
	return d
}

// stamp keeps the milliseconds that documents have.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }

func (d *described) write(t *text) {
	t.heading("Document")
	t.line("module ID", "%s", quote(d.ModuleID))
	t.line("platform", "%s", d.Platform)
	t.line("time", "%s", d.Timestamp)
	switch {
	case d.DebugMode:
		t.line("debug mode", "YES: PCR0, PCR1 and PCR2 are zero whatever the image")
	case d.claims.Platform == attestation.PlatformEnclave:
		t.line("debug mode", "no")
	}
	d.UserData.write(t, "user data")
	d.Nonce.write(t, "nonce")
	d.PublicKey.write(t, "public key")
	for _, name := range d.UnknownFields {
		t.line("unknown field", "%s", quote(name))
	}

	t.heading("PCRs")
	writePCRs(t, d.claims)

	t.heading("Certificates, root first")
	for i := range d.Certificates {
		d.Certificates[i].write(t)
	}
	if d.RootIsAWS {
		t.line("cabundle[0]", "is, byte for byte, the AWS Nitro root")
	} else {
		t.line("cabundle[0]", "is NOT the AWS Nitro root")
	}
}

func (c *certificate) write(t *text) {
	if c.Error != "" {
		t.line(c.Place, "cannot be parsed: %s", c.Error)
		t.line("", "SHA-256 %s", c.SHA256)
		return
	}
	t.line(c.Place, "CN %s", quote(c.Subject))
	t.line("", "%s to %s (%s)", c.NotBefore, c.NotAfter, lifetime(c.life))
	t.line("", "%s key, signed with %s, serial %s", c.Key, c.Algorithm, shorten(c.Serial))
}

// lifetime writes days where hours would be hard to read.
func lifetime(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 2*day {
		return d.String()
	}
	return fmt.Sprintf("%d days", d/day)
}

// maxShown bounds how much of a value the text shows, in characters.
const maxShown = 64

func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return s[:maxShown] + "..."
}
