package readme

import (
	"context"
	"crypto/rand"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

var (
	cfg    aws.Config
	keyARN string
	sealed []byte

	pcr0, pcr1, pcr2 attestation.PCR
	askEnclave       func(nonce []byte) []byte
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func use([]byte) {}

func Example_enclave() {
	ctx := context.Background()
	session, err := nsm.Open() // the enclave's NSM, /dev/nsm
	check(err)
	defer session.Close()
	dialer := vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8000)}
	client, err := kmsclient.New(ctx, cfg, session, kmsclient.Options{
		KeyIDs: []string{keyARN},   // answers about any other key are refused
		Dial:   dialer.DialContext, // through the parent, which cannot read along
	})
	check(err)
	out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed})
	check(err)
	use(out.Plaintext)
}

func Example_relyingparty() {
	verifier, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{{
			Name: "v4.1", // as nitro-cli build-enclave printed it
			PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2},
		}},
	})
	check(err)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	raw := askEnclave(nonce) // however it travels: nobody on the way is trusted
	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
	check(err)
	use(doc.PublicKey) // it was put there by the image you named
}
