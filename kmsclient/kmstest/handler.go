package kmstest

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "TrentService." // KMS's name in its protocol
)

var errBodyTooLong = errors.New("request body too long")

// answer handles one HTTP request.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	c := &call{server: s}
	result, failure := c.run(w, r)
	status := http.StatusOK
	var body any = result
	if failure != nil {
		status, body = failure.httpStatus(), failure.body()
	}
	encoded, err := json.Marshal(body)
	if err != nil { // unreachable: answers are maps of plain values
		failure = internalError("encoding the answer", err)
		status, encoded = failure.httpStatus(), []byte(`{"__type":"`+codeInternal+`"}`)
	}
	media := contentType
	if failure != nil && failure.html != "" {
		media, encoded = "text/html", []byte(failure.html)
	}
	requestID := newUUID()
	s.record(c, requestID, failure)
	if c.fault == CutBeforeHeader {
		panic(http.ErrAbortHandler) // net/http's way to cut a connection
	}
	header := w.Header()
	header.Set("X-Amzn-Requestid", requestID)
	header.Set("Content-Type", media)
	header.Set("Content-Length", strconv.Itoa(len(encoded)))
	// The SDK corrects its clock by this header, so it must be this clock's.
	header.Set("Date", s.clock().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	if c.fault == CutInBody {
		sendCut(w, encoded)
	}
	_, _ = w.Write(encoded) // the client has gone: nobody to tell
}

// run takes a request through KMS's stages: is it one for this service, is it
// signed, is it well-formed; then the operation.
func (c *call) run(w http.ResponseWriter, r *http.Request) (map[string]any, *apiError) {
	unknown := &apiError{code: codeUnknownOperation}
	if r.Method != http.MethodPost || r.URL.EscapedPath() != "/" || r.URL.RawQuery != "" {
		unknown.status = http.StatusNotFound
		return nil, unknown
	}
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	operation, known := operations[name]
	if !ok || !known {
		return nil, unknown
	}
	c.operation = name
	body, err := readBody(w, r)
	if errors.Is(err, errBodyTooLong) {
		return nil, &apiError{code: codeTooLarge, status: http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return nil, newAPIError(codeSerialization, "The request body could not be read.")
	}
	if refused := c.server.signatures.Verify(r, body, c.server.clock()); refused != nil {
		return nil, &apiError{code: refused.Code, message: refused.Message}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != contentType {
		return nil, newAPIError(codeSerialization, "Content-Type must be %s.", contentType)
	}
	if c.input, err = parseObject(body); err != nil {
		return nil, newAPIError(codeSerialization, "The request body is not valid JSON: %v.", err)
	}
	if failure := c.readGrantTokens(); failure != nil {
		return nil, failure
	}
	if failure := c.meetFault(w, r); failure != nil {
		return nil, failure
	}
	return operation(c)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return nil, errBodyTooLong
	}
	return body, err
}
