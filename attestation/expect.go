package attestation

import "crypto/subtle"

// validate reports an expectation that can't be meant.
func (e *Expect) validate() error {
	switch {
	case e.Nonce == nil && !e.UnsafeAnyNonce:
		return fail(ReasonInvalidExpectation, "Nonce", "is nil: give the nonce you sent, or set UnsafeAnyNonce if something else ties the document to this exchange")
	case e.Nonce != nil && e.UnsafeAnyNonce:
		return fail(ReasonInvalidExpectation, "UnsafeAnyNonce", "is set beside Nonce; choose one")
	case e.Nonce != nil && len(e.Nonce) == 0:
		return fail(ReasonInvalidExpectation, "Nonce", "is empty, which any document without a nonce would match")
	}
	for _, f := range []struct {
		name  string
		value []byte
	}{{"Nonce", e.Nonce}, {"UserData", e.UserData}, {"PublicKey", e.PublicKey}} {
		if len(f.value) > MaxFieldSize {
			return fail(ReasonInvalidExpectation, f.name, "is %d bytes; a document holds at most %d", len(f.value), MaxFieldSize)
		}
	}
	return nil
}

// judge compares the three fields that the enclave's program fills.
func (e *Expect) judge(c *Claims) error {
	for _, f := range []struct {
		reason    Reason
		field     string
		got, want []byte
	}{
		{ReasonNonce, fieldNonce, c.Nonce, e.Nonce},
		{ReasonUserData, fieldUserData, c.UserData, e.UserData},
		{ReasonPublicKey, fieldPublicKey, c.PublicKey, e.PublicKey},
	} {
		// A nonce or user data may be derived from a secret that the two
		// sides share, so the time taken tells nothing of the value.
		if f.want == nil || subtle.ConstantTimeCompare(f.got, f.want) == 1 {
			continue
		}
		if len(f.got) == 0 {
			return fail(f.reason, f.field, "is absent; %d bytes are expected", len(f.want))
		}
		return fail(f.reason, f.field, "is not the expected value (%d bytes in the document, %d expected)", len(f.got), len(f.want))
	}
	return nil
}
