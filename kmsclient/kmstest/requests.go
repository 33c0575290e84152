package kmstest

import (
	"maps"
	"slices"

	"github.com/keyvouch/keyvouch/attestation"
)

// Request is what the server remembers of a request, for a test to look at. It
// holds no plaintext, no credential, and of a document only what it says.
type Request struct {
	// Operation is the operation's name, such as Decrypt; empty if the server
	// knows no such operation.
	Operation string
	// KeyID is the KeyId parameter as the client sent it, empty if it sent
	// none or the request was refused before it was read.
	KeyID string
	// KeyARN is the key that KeyID, or the ciphertext, stood for at the time;
	// empty if there was none or the request was refused before it was looked
	// up.
	KeyARN string
	// EncryptionContext is the encryption context the client sent, nil if it
	// sent none or one that KMS does not take.
	EncryptionContext map[string]string
	// GrantTokens is how many grant tokens the client sent.
	GrantTokens int
	// Recipient says that the request had the Recipient parameter.
	Recipient bool
	// Attestation is what the recipient's document says, such as its PCRs and
	// public key; nil if there was none or it did not verify.
	Attestation *attestation.Claims
	// Fault is the injected failure the request met, Delayed for a Delay alone;
	// empty if it met none. See [Server.Inject].
	Fault Failure
	// ErrorCode is the error the server answered with, such as
	// AccessDeniedException; empty if the request succeeded, and with the fault
	// UnavailableHTML, which has none. With CutBeforeHeader and CutInBody it is
	// that of the answer the client did not get.
	ErrorCode string
	// Detail says more of the error than KMS tells a client, such as which
	// statement of a key policy failed on which PCR.
	Detail string
	// RequestID is the answer's x-amzn-RequestId.
	RequestID string
}

// Requests returns the requests answered so far, the oldest first, at most the
// last MaxRecordedRequests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := slices.Clone(s.requests)
	for i := range requests {
		requests[i] = requests[i].clone()
	}
	return requests
}

// clone makes a record that its receiver may change.
func (r Request) clone() Request {
	r.EncryptionContext = maps.Clone(r.EncryptionContext)
	if r.Attestation != nil {
		claims := *r.Attestation
		claims.PCRs = maps.Clone(claims.PCRs)
		claims.PublicKey, claims.UserData, claims.Nonce = slices.Clone(claims.PublicKey), slices.Clone(claims.UserData), slices.Clone(claims.Nonce)
		claims.UnknownFields = slices.Clone(claims.UnknownFields)
		r.Attestation = &claims
	}
	return r
}

func (s *Server) record(c *call, requestID string, failure *apiError) {
	request := Request{
		Operation:   c.operation,
		GrantTokens: c.grantTokens,
		Fault:       c.fault,
		RequestID:   requestID,
	}
	// From the input, as an injected fault comes before the operation reads it.
	if context, failure := c.input.encryptionContext(); failure == nil {
		request.EncryptionContext = context
	}
	if c.target != nil {
		request.KeyARN = c.target.arn
	}
	if c.recipient != nil {
		request.Attestation = &c.recipient.claims
	}
	if id, ok := c.input["KeyId"].(string); ok {
		request.KeyID = shorten(id)
	}
	request.Recipient = c.input["Recipient"] != nil
	if failure != nil {
		request.ErrorCode, request.Detail = failure.code, failure.detail
		if request.Detail == "" {
			request.Detail = failure.message
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == MaxRecordedRequests {
		s.requests = slices.Delete(s.requests, 0, 1)
	}
	s.requests = append(s.requests, request)
}

// shorten bounds what a message or a record repeats of a request.
func shorten(text string) string {
	if len(text) > maxKeyIDLength {
		return text[:maxKeyIDLength]
	}
	return text
}
