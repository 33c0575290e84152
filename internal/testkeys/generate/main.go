// Command generate makes the keys of package testkeys anew:
//
//	go generate ./internal/testkeys
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log"
	"os"
)

func main() {
	var file bytes.Buffer
	file.WriteString("Keys for tests. They are public: nothing but a test may use them.\n")
	for _, of := range []struct{ bits, count int }{{2048, 16}, {3072, 4}, {4096, 4}} {
		for range of.count {
			key, err := rsa.GenerateKey(rand.Reader, of.bits)
			check(err)
			der, err := x509.MarshalPKCS8PrivateKey(key)
			check(err)
			check(pem.Encode(&file, &pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		}
	}
	check(os.WriteFile("rsa.pem", file.Bytes(), 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
