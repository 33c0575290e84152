package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// This file is the enclave's part. The code is the same with a real NSM, parent and KMS and
// with stand-ins.

// ownPCRs reads PCR0, 1 and 2 from the NSM.
func ownPCRs(ctx context.Context, session *nsm.Session) (map[int]attestation.PCR, error) {
	pcrs := map[int]attestation.PCR{}
	for i := range 3 {
		pcr, err := session.DescribePCR(ctx, i)
		if err != nil {
			return nil, err
		}
		pcrs[i] = pcr.Value
	}
	return pcrs, nil
}

func showMeasurement(ctx context.Context, r *report, session *nsm.Session) error {
	description, err := session.Describe(ctx)
	if err != nil {
		return err
	}
	pcrs, err := ownPCRs(ctx, session)
	if err != nil {
		return err
	}
	r.step("enclave", "booted as "+description.ModuleID+"; its NSM measured", pcrFacts(pcrs)...)
	return nil
}

func pcrFacts(pcrs map[int]attestation.PCR) []fact {
	var facts []fact
	for i := range 3 {
		facts = append(facts, fact{fmt.Sprintf("PCR%d", i), pcrs[i].String()})
	}
	return facts
}

type releaseRequest struct {
	config     aws.Config
	proxy      vsockproxy.Endpoint
	keyID      string
	ciphertext []byte
	roots      *x509.CertPool // nil in a real enclave: Amazon's
}

// release has KMS decrypt the secret for this enclave. After a refusal, which goes into the
// report, it returns neither a secret nor an error.
func release(ctx context.Context, r *report, session *nsm.Session, req releaseRequest) ([]byte, error) {
	dialer := &vsockproxy.Dialer{Endpoint: req.proxy}
	start := time.Now()
	client, err := kmsclient.New(ctx, req.config, session, kmsclient.Options{
		KeyIDs:  []string{req.keyID},
		Dial:    dialer.DialContext,
		RootCAs: req.roots,
	})
	if err != nil {
		return nil, err
	}
	r.step("enclave", fmt.Sprintf("made an RSA key that never leaves it, in %v", time.Since(start).Round(time.Millisecond)))

	out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: req.ciphertext})
	var refused *kmsclient.Error
	if errors.As(err, &refused) && isRefusal(refused) {
		r.step("enclave", "asked KMS to decrypt the secret for it, with its document")
		by := "KMS"
		if refused.Reason == kmsclient.ReasonChannel {
			by = "TLS in the enclave"
		}
		r.refused(by, string(refused.Reason), refused.Error())
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(out.Plaintext)
	r.SHA256 = hex.EncodeToString(digest[:])
	r.step("enclave", "had KMS decrypt the secret for it, with its document",
		fact{"key", aws.ToString(out.KeyId)},
		fact{"secret", fmt.Sprintf("%d bytes, in the enclave's memory only", len(out.Plaintext))},
		fact{"SHA-256", r.SHA256})
	return out.Plaintext, nil
}

// isRefusal tells a refusal from a party that could not be reached.
func isRefusal(e *kmsclient.Error) bool {
	if e.Reason == kmsclient.ReasonChannel {
		var untrusted x509.UnknownAuthorityError
		var wrongHost x509.HostnameError
		return errors.As(e, &untrusted) || errors.As(e, &wrongHost)
	}
	if e.Reason == kmsclient.ReasonKMS {
		// These are KMS's judgements of the request or its document. Others, such as
		// throttling, are failures.
		var api smithy.APIError
		return errors.As(e, &api) && slices.Contains([]string{"ValidationException", "IncorrectKeyException", "InvalidCiphertextException"}, api.ErrorCode())
	}
	return e.Reason == kmsclient.ReasonAccessDenied
}
