package kmstest

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// Failure is a way in which a request can fail that is not the client's fault.
// The strings are stable.
type Failure string

const (
	// Delayed: none; the request is served as any other, after the Delay.
	Delayed Failure = "delayed"
	// Throttling: the account's requests per second are used up. KMS answers
	// with status 400, ThrottlingException and this package's text (KMS
	// Developer Guide, "Throttling AWS KMS requests"). The service model does
	// not have the exception: a client finds it by its code only.
	Throttling Failure = "throttling"
	// Internal: status 500 and KMSInternalException.
	Internal Failure = "internal"
	// KeyUnavailable: status 500 and KeyUnavailableException.
	KeyUnavailable Failure = "key-unavailable"
	// DependencyTimeout: status 503 and DependencyTimeoutException.
	DependencyTimeout Failure = "dependency-timeout"
	// Unavailable: status 503 and ServiceUnavailable, one of the errors common
	// to all AWS services.
	Unavailable Failure = "unavailable"
	// UnavailableHTML: status 503 with a page of HTML, as a load balancer in
	// front of the service or a proxy on the way gives it: there is no code and
	// no message.
	UnavailableHTML Failure = "unavailable-html"
	// CutBeforeHeader: the connection ends before the answer begins. The
	// operation was carried out, which the client cannot tell.
	CutBeforeHeader Failure = "cut-before-header"
	// CutInBody: the connection ends half-way through the answer's body. The
	// operation was carried out. The SDK's retryers do not try again by
	// themselves, as they do after all others.
	CutInBody Failure = "cut-in-body"
)

// failures are the answers of the failures that have one, nil for those that
// leave it to the operation. Codes, statuses and texts are the service model's.
var failures = map[Failure]*apiError{
	Delayed:    nil,
	Throttling: {code: codeThrottling, message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
	Internal: {code: codeInternal, status: http.StatusInternalServerError,
		message: "The request was rejected because an internal exception occurred. The request can be retried."},
	KeyUnavailable: {code: codeKeyUnavailable, status: http.StatusInternalServerError,
		message: "The request was rejected because the specified KMS key was not available. You can retry the request."},
	DependencyTimeout: {code: codeDependencyTimeout, status: http.StatusServiceUnavailable,
		message: "The system timed out while trying to fulfill the request. You can retry the request."},
	Unavailable: {code: codeUnavailable, status: http.StatusServiceUnavailable,
		message: "The request has failed due to a temporary failure of the server."},
	UnavailableHTML: {status: http.StatusServiceUnavailable,
		html: "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body><h1>503 Service Temporarily Unavailable</h1></body>\r\n</html>\r\n"},
	CutBeforeHeader: nil,
	CutInBody:       nil,
}

// Fault is what [Server.Inject] makes the server do to requests to come.
type Fault struct {
	// Operation is the operation whose requests fail, such as "Decrypt"; empty
	// means any.
	Operation string
	// Times is how many requests fail, one after the other; 0 means 1.
	Times int
	// Delay is how long the server waits, by the machine's clock, before it
	// fails or carries out the operation. It waits no longer than the client
	// does, and not beyond Close, so that a server that hangs is a Delay of an
	// hour.
	Delay time.Duration
	// Failure is how they fail; empty is the same as Delayed, and then there
	// must be a Delay.
	Failure Failure
}

// Inject makes the next requests that fit the fault fail on the wire, as KMS
// and the network on the way to it do:
//
//	err := server.Inject(kmstest.Fault{Operation: "Decrypt", Times: 2, Failure: kmstest.Throttling})
//
// A request meets at most one fault: the first injected that fits and is not used up.
// Only well-formed requests with a valid signature use faults up. A failure with a
// response of its own comes before everything else, even before the key is looked up.
// [Request].Fault says which requests met one.
//
// The error is an [*Error] with [ReasonInvalidOptions].
func (s *Server) Inject(fault Fault) error {
	if fault.Failure == "" {
		fault.Failure = Delayed
	}
	if fault.Times == 0 {
		fault.Times = 1
	}
	if _, known := failures[fault.Failure]; !known {
		return optionError("Inject", "Failure", "%.100q is none of %v", fault.Failure, slices.Sorted(maps.Keys(failures)))
	}
	if _, known := operations[fault.Operation]; !known && fault.Operation != "" {
		return optionError("Inject", "Operation", "%.100q is none of %v", fault.Operation, slices.Sorted(maps.Keys(operations)))
	}
	switch {
	case fault.Times < 0:
		return optionError("Inject", "Times", "%d; it must not be negative", fault.Times)
	case fault.Delay < 0:
		return optionError("Inject", "Delay", "%v; it must not be negative", fault.Delay)
	case fault.Failure == Delayed && fault.Delay == 0:
		return optionError("Inject", "", "the fault has neither a Failure nor a Delay")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fault)
	return nil
}

// ClearFaults forgets the faults that no request has used up, as at the end of
// an outage. Requests that are waiting for a Delay keep theirs.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFault is the fault for a request of the operation, the zero value if
// there is none.
func (s *Server) takeFault(operation string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults {
		fault := s.faults[i]
		if fault.Operation != "" && fault.Operation != operation {
			continue
		}
		if s.faults[i].Times--; s.faults[i].Times == 0 {
			s.faults = slices.Delete(s.faults, i, i+1)
		}
		return fault
	}
	return Fault{}
}

// meetFault takes the fault that is in store for the request, waits for its
// Delay and returns its answer, nil if the operation is to be carried out.
func (c *call) meetFault(w http.ResponseWriter, r *http.Request) *apiError {
	fault := c.server.takeFault(c.operation)
	c.fault = fault.Failure
	if fault.Delay > 0 && !wait(w, r, fault.Delay) {
		gone := *failures[Internal]
		gone.detail = "the client left, or the server was closed, during the injected delay"
		return &gone
	}
	if failure := failures[fault.Failure]; failure != nil {
		injected := *failure
		injected.detail = "injected: " + string(fault.Failure)
		return &injected
	}
	return nil
}

// wait returns false if the connection ends first: net/http then ends the
// request's context.
func wait(w http.ResponseWriter, r *http.Request, delay time.Duration) bool {
	// Without this the server's own timeouts would cut longer waits short. They
	// hold again from the next request on. This server's connections have both.
	controller := http.NewResponseController(w)
	_ = controller.SetReadDeadline(time.Time{})
	_ = controller.SetWriteDeadline(time.Now().Add(delay + writeTimeout))
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// sendCut sends half of the body of an answer whose header promises all of it,
// and cuts the connection.
func sendCut(w http.ResponseWriter, body []byte) {
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // net/http's way to cut a connection
}
