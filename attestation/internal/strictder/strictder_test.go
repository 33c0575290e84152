package strictder

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// derNode is an element of DER as a tree. Octet strings that hold DER, as
// extensions' values do, are taken apart too.
type derNode struct {
	tag  byte
	body []byte     // if it is not taken apart
	kids []*derNode // if it is
	open bool
}

func derTree(der []byte) []*derNode {
	var nodes []*derNode
	for len(der) > 0 {
		tag, content, rest, ok := nextDER(der)
		if !ok {
			return nil
		}
		n := &derNode{tag: byte(tag), body: content}
		if tag&0x20 != 0 || tag == derOctets {
			if kids := derTree(content); kids != nil || len(content) == 0 {
				n.kids, n.open = kids, true
			}
		}
		nodes, der = append(nodes, n), rest
	}
	return nodes
}

func (n *derNode) der() []byte {
	body := n.body
	if n.open {
		body = nil
		for _, kid := range n.kids {
			body = append(body, kid.der()...)
		}
	}
	switch {
	case len(body) < 0x80:
		return append([]byte{n.tag, byte(len(body))}, body...)
	case len(body) <= 0xff:
		return append([]byte{n.tag, 0x81, byte(len(body))}, body...)
	}
	return append([]byte{n.tag, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
}

// walk calls f with every node that is taken apart, and the tags above it.
func (n *derNode) walk(path string, f func(n *derNode, path string)) {
	path += "/" + string("0123456789abcdef"[n.tag>>4]) + string("0123456789abcdef"[n.tag&15])
	if n.open {
		f(n, path)
	}
	for _, kid := range n.kids {
		kid.walk(path, f)
	}
}

// parse reads a certificate as package attestation does.
func parse(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if part := Loose(c); part != "" {
		return nil, errors.New(part)
	}
	return c, nil
}

func realChain(t *testing.T) []*x509.Certificate {
	t.Helper()
	n, err := nsmtest.New(nsmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := n.Chain()
	if err != nil {
		t.Fatal(err)
	}
	var certificates []*x509.Certificate
	for _, der := range append(chain.CABundle, chain.Certificate) {
		c, err := parse(der)
		if err != nil {
			t.Fatal(err)
		}
		certificates = append(certificates, c)
	}
	return certificates
}

// TestNoRoomInCertificates adds an element at the end of everything that holds
// elements. What is left to hold more are the values of extensions that
// verification does not use, such as key identifiers.
func TestNoRoomInCertificates(t *testing.T) {
	const extensionValue = "/30/30/a3/30/30/04"
	refused := 0
	for i, c := range realChain(t) {
		root := derTree(c.Raw)[0]
		if !slices.Equal(root.der(), c.Raw) {
			t.Fatal("the certificate does not survive being taken apart")
		}
		root.walk("", func(n *derNode, path string) {
			saved := n.kids
			defer func() { n.kids = saved }()
			for _, extra := range []*derNode{{tag: 0x05}, {tag: 0x04, body: []byte("x")}, {tag: 0x30}, {tag: 0x01, body: []byte{0xff}}, {tag: derUTCTime, body: []byte("260101000000Z")}} {
				n.kids = append(slices.Clone(saved), extra)
				if _, err := parse(root.der()); err != nil {
					refused++
				} else if !strings.HasPrefix(path, extensionValue) {
					t.Errorf("certificate %d takes another %02x at the end of %s", i, extra.tag, path)
				}
			}
		})
	}
	if refused < 100 {
		t.Errorf("only %d refused: the test tries too little", refused)
	}
}

// TestExplicitFalse writes a default, critical FALSE, which DER leaves out.
func TestExplicitFalse(t *testing.T) {
	tried := 0
	for _, c := range realChain(t) {
		root := derTree(c.Raw)[0]
		root.walk("", func(n *derNode, path string) {
			if len(n.kids) != 2 || n.tag != derSequence || n.kids[0].tag != derOID || n.kids[1].tag != derOctets {
				return
			}
			saved := n.kids
			n.kids = []*derNode{saved[0], {tag: derBoolean, body: []byte{0}}, saved[1]}
			if _, err := parse(root.der()); err == nil {
				t.Errorf("an explicit critical FALSE is accepted at %s", path)
			}
			n.kids = saved
			tried++
		})
	}
	if tried == 0 {
		t.Error("there was no extension to try it on")
	}
}

// Defaults and empty bits written out, which DER leaves out.
func TestLooseExtensions(t *testing.T) {
	for _, c := range []struct {
		name  string
		id    asn1.ObjectIdentifier
		value []byte
		good  bool
	}{
		{"no CA", OIDBasicConstraints, []byte{0x30, 0}, true},
		{"CA", OIDBasicConstraints, []byte{0x30, 3, 1, 1, 0xff}, true},
		{"CA with a path length", OIDBasicConstraints, []byte{0x30, 6, 1, 1, 0xff, 2, 1, 1}, true},
		{"explicitly no CA", OIDBasicConstraints, []byte{0x30, 3, 1, 1, 0}, false},
		{"half a CA", OIDBasicConstraints, []byte{0x30, 3, 1, 1, 1}, false},
		{"nothing", OIDBasicConstraints, nil, false},
		{"digitalSignature", OIDKeyUsage, []byte{3, 2, 7, 0x80}, true},
		{"two usages", OIDKeyUsage, []byte{3, 2, 6, 0xc0}, true},
		{"bits at the end", OIDKeyUsage, []byte{3, 2, 0, 0x80}, false},
		{"no bit", OIDKeyUsage, []byte{3, 1, 0}, false},
		{"nine unused bits", OIDKeyUsage, []byte{3, 2, 9, 0x80}, false},
		{"key identifier", oidSubjectKeyID, []byte{4, 1, 'k'}, true},
		{"key identifier and more", oidSubjectKeyID, []byte{4, 1, 'k', 5, 0}, false},
		{"issuer's key identifier", oidAuthorityKeyID, []byte{0x30, 3, 0x80, 1, 'k'}, true},
		{"issuer's key identifier and more", oidAuthorityKeyID, []byte{0x30, 5, 0x80, 1, 'k', 5, 0}, false},
		{"another extension", asn1.ObjectIdentifier{1, 2, 3}, []byte("anything"), true},
	} {
		if part := looseExtension(pkix.Extension{Id: c.id, Value: c.value}); (part == "") != c.good {
			t.Errorf("%s: %q", c.name, part)
		}
	}
}

func FuzzStrictDER(f *testing.F) {
	root, err := os.ReadFile("../../roots/aws-nitro-enclaves-g1.der")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{root, {0x30, 0x03, 0x02, 0x01, 0x00}, {0x30, 0x82, 0x00, 0x00}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := parse(der)
		if err != nil {
			return
		}
		// What is accepted is written in the one way there is.
		if nodes := derTree(der); len(nodes) != 1 || !slices.Equal(nodes[0].der(), der) {
			t.Fatalf("accepted another encoding of %s", c.Subject)
		}
	})
}

func TestValidityDER(t *testing.T) {
	utc, general := func(s string) *derNode { return &derNode{tag: derUTCTime, body: []byte(s)} }, func(s string) *derNode { return &derNode{tag: derTime, body: []byte(s)} }
	for _, c := range []struct {
		name  string
		times []*derNode
		good  bool
	}{
		{"two of this century", []*derNode{utc("260314110000Z"), utc("260314140000Z")}, true},
		{"one after 2049", []*derNode{utc("260314110000Z"), general("20500314140000Z")}, true},
		{"one", []*derNode{utc("260314110000Z")}, false},
		{"three", []*derNode{utc("260314110000Z"), utc("260314140000Z"), utc("260314140000Z")}, false},
		{"without seconds", []*derNode{utc("2603141100Z"), utc("260314140000Z")}, false},
		{"with an offset", []*derNode{utc("260314110000+0100"), utc("260314140000Z")}, false},
		{"general before 2050", []*derNode{utc("260314110000Z"), general("20260314140000Z")}, false},
		{"general with an offset", []*derNode{utc("260314110000Z"), general("20500314140000+0100")}, false},
		{"of another type", []*derNode{utc("260314110000Z"), {tag: derOctets, body: []byte("260314140000Z")}}, false},
	} {
		validity := &derNode{tag: derSequence, kids: c.times, open: true}
		if got := derIsValidity(validity.der()); got != c.good {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
