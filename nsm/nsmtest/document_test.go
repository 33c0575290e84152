package nsmtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

func newNSM(t testing.TB, opts Options) *NSM {
	t.Helper()
	n, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func attest(t testing.TB, n *NSM, r nsm.AttestationRequest) []byte {
	t.Helper()
	document, err := nsm.NewSession(n).Attest(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

// The skeleton of a document, byte for byte, with its values taken from the
// options.
func TestDocumentBytes(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 123456789, time.UTC)
	for _, legacy := range []bool{false, true} {
		n := newNSM(t, Options{
			ModuleID: "i-1-enc2", LegacyShape: legacy, Clock: func() time.Time { return now },
			Image: []byte("image"), RoleARN: "arn:role",
		})
		document := attest(t, n, nsm.AttestationRequest{Nonce: []byte("n"), UserData: []byte{}})
		chain, err := n.Chain()
		if err != nil {
			t.Fatal(err)
		}

		payload := unhex(t, "bf")
		if legacy {
			payload = unhex(t, "a9")
		}
		put := func(parts ...string) {
			for _, part := range parts {
				payload = append(payload, unhex(t, part)...)
			}
		}
		long := func(b []byte) { // these are all 256 to 65535 bytes
			payload = append(payload, 0x59)
			payload = binary.BigEndian.AppendUint16(payload, uint16(len(b)))
			payload = append(payload, b...)
		}
		put("69 6d6f64756c655f6964", "68 692d312d656e6332") // module_id: i-1-enc2
		put("66 646967657374", "66 534841333834")           // digest: SHA384
		put("69 74696d657374616d70", "1b")                  // timestamp
		payload = binary.BigEndian.AppendUint64(payload, uint64(now.UnixMilli()))
		put("64 70637273", "b0") // pcrs
		for i := range 16 {
			pcr := n.PCR(i)
			payload = append(payload, byte(i), 0x58, 48)
			payload = append(payload, pcr[:]...)
		}
		put("6b 6365727469666963617465") // certificate
		long(chain.Certificate)
		put("68 636162756e646c65", "84") // cabundle
		for _, c := range chain.CABundle {
			long(c)
		}
		put("6a 7075626c69635f6b6579 f6", "69 757365725f64617461 40", "65 6e6f6e6365 41 6e")
		if !legacy {
			put("ff")
		}

		want := unhex(t, "84 44 a1013822 a0 59")
		want = binary.BigEndian.AppendUint16(want, uint16(len(payload)))
		want = append(want, payload...)
		want = append(want, 0x58, 96)
		if len(document) != len(want)+96 || !bytes.HasPrefix(document, want) {
			t.Fatalf("legacy %t:\ngot  %x\nwant %x…", legacy, document, want)
		}

		// The signature, over the structure of RFC 9052, section 4.4.
		tbs := append(unhex(t, "84 6a 5369676e617475726531 44 a1013822 40 59"), byte(len(payload)>>8), byte(len(payload)))
		digest := sha512.Sum384(append(tbs, payload...))
		signature := document[len(document)-96:]
		r, s := new(big.Int).SetBytes(signature[:48]), new(big.Int).SetBytes(signature[48:])
		if !ecdsa.Verify(chain.Key.Public().(*ecdsa.PublicKey), digest[:], r, s) {
			t.Error("the signature does not verify")
		}
	}
}

// A real document's bytes differ from ours only in values: the heads of all
// CBOR items have the same widths.
func TestDocumentShapeOfRealOnes(t *testing.T) {
	dir := os.Getenv("KEYVOUCH_FIXTURES")
	if dir == "" {
		t.Skip("KEYVOUCH_FIXTURES names no folder with real attestation documents")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "attestation", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct {
		File  string `json:"file"`
		Kind  string `json:"kind"`
		Count int    `json:"pcr_count"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, m := range manifest {
		if m.Kind != "enclave" || m.Count != 16 {
			continue
		}
		real, err := os.ReadFile(filepath.Join(dir, "attestation", m.File))
		if err != nil {
			t.Fatal(err)
		}
		p := payloadOf(t, real)
		// Encoding a real document's values must give its bytes.
		d := &Document{ModuleID: p["module_id"].(string), Digest: p["digest"].(string), TimestampMillis: p["timestamp"].(uint64), PCRs: map[int][]byte{}, Certificate: p["certificate"].([]byte)}
		for index, value := range p["pcrs"].(map[any]any) {
			d.PCRs[int(index.(uint64))] = value.([]byte)
		}
		for _, c := range p["cabundle"].([]any) {
			d.CABundle = append(d.CABundle, c.([]byte))
		}
		d.PublicKey, _ = p["public_key"].([]byte)
		d.UserData, _ = p["user_data"].([]byte)
		d.Nonce, _ = p["nonce"].([]byte)
		payload := decode(t, real).([]any)[2].([]byte)
		if got := d.payload(payload[0] == 0xa9); !bytes.Equal(got, payload) {
			t.Errorf("%s: got\n%x\nwant\n%x", m.File, got, payload)
		}
		compared++
	}
	if compared < 10 {
		t.Errorf("only %d documents compared", compared)
	}
}

func TestEditDocument(t *testing.T) {
	n := newNSM(t, Options{EditDocument: func(d *Document) {
		d.Digest = "SHA256"
		d.PCRs[-1] = []byte{1}
		d.PCRs[40] = nil
		d.CABundle = nil
		d.Certificate = nil
		d.UserData = []byte("edited")
	}})
	p := payloadOf(t, attest(t, n, nsm.AttestationRequest{}))
	pcrs := p["pcrs"].(map[any]any)
	if p["digest"] != "SHA256" || p["cabundle"] != nil || p["certificate"] != nil || string(p["user_data"].([]byte)) != "edited" ||
		len(pcrs) != 18 || !bytes.Equal(pcrs[int64(-1)].([]byte), []byte{1}) || pcrs[uint64(40)] != nil {
		t.Errorf("%v", p)
	}
	// The hook's document is its own: the NSM and its chain are unchanged.
	if chain, err := n.Chain(); err != nil || len(chain.CABundle) != 4 {
		t.Errorf("%v, %v", chain, err)
	}
}

// A hook that flips a byte of everything it gets damages one document, and
// neither the NSM nor others that share its PKI.
func TestEditDocumentGetsCopies(t *testing.T) {
	pki, err := NewPKI(PKIOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edits := 0
	edited := newNSM(t, Options{PKI: pki, Image: []byte("image"), EditDocument: func(d *Document) {
		if edits++; edits > 1 {
			return
		}
		fields := append([][]byte{d.Certificate, d.PublicKey, d.UserData, d.Nonce}, d.CABundle...)
		for _, value := range d.PCRs {
			fields = append(fields, value)
		}
		for _, field := range fields {
			field[len(field)/2] ^= 1
		}
		for i := range d.CABundle {
			d.CABundle[i] = append(d.CABundle[i], 0)
		}
	}})
	other := newNSM(t, Options{PKI: pki, Image: []byte("image")})
	root := bytes.Clone(pki.Root().Raw)
	request := nsm.AttestationRequest{PublicKey: []byte("key"), UserData: []byte("data"), Nonce: []byte("nonce")}

	attest(t, edited, request)
	if string(request.PublicKey) != "key" || string(request.UserData) != "data" || string(request.Nonce) != "nonce" {
		t.Errorf("the request changed: %+v", request)
	}
	for name, n := range map[string]*NSM{"the same NSM": edited, "another NSM of the PKI": other} {
		p := payloadOf(t, attest(t, n, request))
		chain := Chain{Certificate: p["certificate"].([]byte)}
		for _, c := range p["cabundle"].([]any) {
			chain.CABundle = append(chain.CABundle, c.([]byte))
		}
		if !bytes.Equal(chain.CABundle[0], root) {
			t.Errorf("%s: the root in the next document changed", name)
		}
		if err := verify(parse(t, chain), pki.Root(), time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		pcr0, _, _ := Measure([]byte("image"))
		if got := p["pcrs"].(map[any]any)[uint64(0)]; !bytes.Equal(got.([]byte), pcr0[:]) {
			t.Errorf("%s: PCR0 is %x", name, got)
		}
		if string(p["public_key"].([]byte)) != "key" || string(p["user_data"].([]byte)) != "data" || string(p["nonce"].([]byte)) != "nonce" {
			t.Errorf("%s: fields of the next document changed: %v", name, p)
		}
	}
}

func TestDocumentTooLong(t *testing.T) {
	n := newNSM(t, Options{EditDocument: func(d *Document) { d.UserData = make([]byte, nsm.MaxResponseSize) }})
	_, err := nsm.NewSession(n).Attest(t.Context(), nsm.AttestationRequest{})
	if err == nil || !strings.Contains(err.Error(), string(nsm.CodeBufferTooSmall)) {
		t.Errorf("%v", err)
	}
}

func TestSignPayload(t *testing.T) {
	n := newNSM(t, Options{})
	document, err := n.SignPayload([]byte("anything"))
	if err != nil {
		t.Fatal(err)
	}
	if want := append(unhex(t, "84 44 a1013822 a0 48"), "anything"...); !bytes.HasPrefix(document, want) || len(document) != len(want)+2+96 {
		t.Errorf("%x", document)
	}
}

func TestFieldsOverTheLimit(t *testing.T) {
	n := newNSM(t, Options{})
	field := strings.Repeat("aa", nsm.MaxFieldSize)
	for _, tt := range []struct {
		extra string
		head  string
		ok    bool
	}{{"", "590400", true}, {"aa", "590401", false}} {
		got, err := n.Send(unhex(t, "a1 6b4174746573746174696f6e a1 656e6f6e6365"+tt.head+field+tt.extra))
		if err != nil || bytes.Equal(got, answerError(nsm.CodeInputTooLarge)) == tt.ok {
			t.Errorf("%s: %x, %v", tt.head, got, err)
		}
	}
}
