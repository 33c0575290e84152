package nsm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// open returns a session with a software NSM, so that the examples run
// anywhere; an application in an enclave calls nsm.Open.
func open() *nsm.Session {
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("image")})
	if err != nil {
		log.Fatal(err)
	}
	return nsm.NewSession(device)
}

func ExampleSession_Attest() {
	session := open() // in an enclave: nsm.Open()
	defer session.Close()

	nonce := []byte("the verifier's challenge")
	document, err := session.Attest(context.Background(), nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the nonce is in the document:", bytes.Contains(document, nonce))
	// Output: the nonce is in the document: true
}

func ExampleOpen() {
	session, err := nsm.Open()
	if errors.Is(err, nsm.ReasonNoDevice) {
		log.Print("not inside a Nitro Enclave: ", err)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
}

// Measure the configuration into a PCR and lock it, so that documents vouch for
// it from then on.
func ExampleSession_ExtendPCR() {
	session := open() // in an enclave: nsm.Open()
	defer session.Close()
	ctx := context.Background()

	value, err := session.ExtendPCR(ctx, 16, []byte("configuration"))
	if err != nil {
		log.Fatal(err)
	}
	if err := session.LockPCR(ctx, 16); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("PCR16: %x…\n", value[:8])

	_, err = session.ExtendPCR(ctx, 16, []byte("more"))
	var refused *nsm.Error
	if errors.As(err, &refused) {
		fmt.Println("again:", refused.Code)
	}
	// Output:
	// PCR16: 02badcedefb00a59…
	// again: ReadOnlyIndex
}

func ExampleSession_Read() {
	session := open() // in an enclave: nsm.Open()
	defer session.Close()

	seed := make([]byte, 32)
	n, err := session.Read(seed)
	fmt.Println(n, err)
	// Output: 32 <nil>
}
