package kmstest

import (
	"bytes"
	"testing"
)

// Two contexts that read the same when run together must not be the same.
func TestAdditionalDataIsUnambiguous(t *testing.T) {
	contexts := []map[string]string{
		nil, {"a": "b", "c": "d"}, {"a": "bcd"}, {"ab": "cd"}, {"a": "", "b": ""}, {"a": "b"}, {"": "ab"}, {"ab": ""}, {"c": "d", "a": "B"},
	}
	seen := map[string]int{}
	for i, context := range contexts {
		data := string(additionalData([]byte("header"), context))
		if j, ok := seen[data]; ok {
			t.Errorf("contexts %v and %v have the same additional data", contexts[j], context)
		}
		seen[data] = i
	}
}

// A blob that parses is within bounds and names a well-formed key; only what a
// key sealed opens, and only unchanged.
func FuzzBlob(f *testing.F) {
	server, err := newServer(Options{})
	if err != nil {
		f.Fatal(err)
	}
	arn, err := server.CreateKey(KeyOptions{})
	if err != nil {
		f.Fatal(err)
	}
	k, failure := server.findKey(arn)
	if failure != nil {
		f.Fatal(failure.message)
	}
	sealed := k.seal([]byte("secret"), map[string]string{"a": "b"})
	f.Add(sealed)
	f.Add(sealed[:blobOverhead])
	f.Add([]byte(blobMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		id, ok := parseBlob(blob)
		if !ok {
			return
		}
		if !keyIDForm.MatchString(id) || len(blob) < blobOverhead || len(blob) > maxBlobLength {
			t.Fatalf("a blob of %d bytes names the key %q", len(blob), id)
		}
		plaintext, failure := k.open(blob, map[string]string{"a": "b"})
		if (failure == nil) != bytes.Equal(blob, sealed) || failure != nil && plaintext != nil {
			t.Fatalf("opened to %q, %v", plaintext, failure)
		}
	})
}
