package main

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// field is one of the three that the enclave's program fills; nil if absent.
type field struct {
	Length int    `json:"length"`
	Form   string `json:"form"` // what it looks like, for readers only
	Hex    string `json:"hex"`

	value []byte
}

func describeField(value []byte) *field {
	if value == nil {
		return nil
	}
	return &field{len(value), formOf(value), hex.EncodeToString(value), value}
}

func (f *field) write(t *text, name string) {
	switch {
	case f == nil:
		t.line(name, "absent")
	case f.Length == 0:
		t.line(name, "present and empty")
	case isReadable(f.value):
		t.line(name, "%d bytes, %s: %s", f.Length, f.Form, quoteShort(string(f.value)))
	default:
		t.line(name, "%d bytes, %s: %s", f.Length, f.Form, shorten(f.Hex))
	}
}

// quoteShort cuts before it quotes, at the end of a character.
func quoteShort(s string) string {
	if len(s) <= maxShown {
		return quote(s)
	}
	end := maxShown
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return quote(s[:end]) + "..."
}

const (
	formText = "text"
	formJSON = "JSON"
)

// formOf recognizes what values commonly are.
func formOf(value []byte) string {
	if len(value) == 0 {
		return "empty"
	}
	if isReadable(value) {
		if value[0] == '{' && json.Valid(value) {
			return formJSON
		}
		if block, _ := pem.Decode(value); block != nil {
			return derForm(block.Bytes) + " in PEM"
		}
		return formText
	}
	for _, curve := range []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521()} {
		if _, err := curve.NewPublicKey(value); err == nil {
			return fmt.Sprintf("%v point", curve)
		}
	}
	return derForm(value)
}

func derForm(der []byte) string {
	if key, err := x509.ParsePKIXPublicKey(der); err == nil {
		return keyForm(key) + " SPKI"
	}
	if key, err := x509.ParsePKCS1PublicKey(der); err == nil {
		return keyForm(key) + " PKCS #1"
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		return "X.509 certificate"
	}
	return "binary"
}

func isReadable(value []byte) bool {
	if !utf8.Valid(value) {
		return false
	}
	for _, r := range string(value) {
		if !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return false
		}
	}
	return true
}

// keyForm names the kind and size of a public key.
func keyForm(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *ecdh.PublicKey:
		return fmt.Sprint(key.Curve())
	}
	return "unknown"
}
