package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

const vectorsFile = "testdata/envelopes.json"

// The vectors are for other implementations to use: see testdata/README.md.
var update = flag.Bool("update", false, "write "+vectorsFile+" anew, with a new key")

type vectors struct {
	Key       []byte   `json:"key"` // PKCS #8
	Envelopes []vector `json:"envelopes"`
}

type vector struct {
	Name      string  `json:"name"`
	Envelope  []byte  `json:"envelope"`
	Plaintext *[]byte `json:"plaintext,omitempty"` // if it opens
	Reason    Reason  `json:"reason,omitempty"`    // if it doesn't
}

// newVectors makes one vector of each kind that the tests know.
func newVectors(t *testing.T, key *rsa.PrivateKey) vectors {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	all := vectors{Key: der}
	for _, form := range forms {
		plaintext := random(1001)
		b := newBuilder(t, key, plaintext)
		form.edit(b, b.ciphertext(t))
		all.Envelopes = append(all.Envelopes, vector{Name: form.name, Envelope: b.bytes(), Plaintext: &plaintext})
	}
	for _, size := range []int{0, 16, 32, MaxPlaintextSize} {
		plaintext := random(size)
		name := map[int]string{0: "empty plaintext", 16: "data key of 16 bytes", 32: "data key of 32 bytes", MaxPlaintextSize: "largest plaintext"}[size]
		all.Envelopes = append(all.Envelopes, vector{Name: name, Envelope: newBuilder(t, key, plaintext).bytes(), Plaintext: &plaintext})
	}
	for _, kind := range [][]wrong{wrongEncodings(t, key), wrongMeanings(t, key), wrongSecrets(t, key)} {
		for _, w := range kind {
			all.Envelopes = append(all.Envelopes, vector{Name: w.name, Envelope: w.envelope, Reason: w.reason})
		}
	}
	return all
}

func TestVectors(t *testing.T) {
	made := newVectors(t, testKey(t, 2048))
	if *update {
		text, err := json.MarshalIndent(made, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var published vectors
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(published.Key)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)

	found := map[string]Reason{}
	for _, v := range published.Envelopes {
		if _, twice := found[v.Name]; twice {
			t.Errorf("two vectors are called %q", v.Name)
		}
		found[v.Name] = v.Reason
		t.Run(v.Name, func(t *testing.T) {
			got, err := Open(v.Envelope, key)
			switch {
			case (v.Plaintext == nil) == (v.Reason == ""):
				t.Fatal("a vector opens or has a reason")
			case v.Plaintext == nil:
				wantReason(t, got, err, v.Reason)
			case err != nil:
				t.Fatal(err)
			case !bytes.Equal(got, *v.Plaintext):
				t.Error("another plaintext")
			}
		})
	}
	for _, v := range made.Envelopes {
		if reason, ok := found[v.Name]; !ok || reason != v.Reason {
			t.Errorf("%q, %q isn't published: run the tests with -update", v.Name, v.Reason)
		}
	}
	if len(found) != len(made.Envelopes) {
		t.Errorf("%d vectors are published and %d are known", len(found), len(made.Envelopes))
	}
}
