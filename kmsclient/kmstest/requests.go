package kmstest

import "slices"

// MaxRecordedRequests is how many requests Requests remembers: the last.
const MaxRecordedRequests = 1024

// Request is what the server remembers of a request, for a test to look at. It
// holds no plaintext, credential or document.
type Request struct {
	// Operation is the operation's name, such as Decrypt; empty if the server
	// knows no such operation.
	Operation string
	// KeyID is the KeyId parameter as the client sent it, empty if it sent
	// none or the request was refused before it was read.
	KeyID string
	// Recipient says that the request had the Recipient parameter.
	Recipient bool
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
	return slices.Clone(s.requests)
}

func (s *Server) record(c *call, requestID string, failure *apiError) {
	request := Request{Operation: c.operation, RequestID: requestID, Fault: c.fault}
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
	const limit = 2048 // KeyId's in the service model
	if len(text) > limit {
		return text[:limit]
	}
	return text
}
