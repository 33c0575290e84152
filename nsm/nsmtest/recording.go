package nsmtest

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

// The file format's name and version. Version 1 had no failures.
const (
	recordingFormat  = "keyvouch-nsm-recording/2"
	recordingFormat1 = "keyvouch-nsm-recording/1"
)

// The bounds of a recording file.
const (
	// MaxRecordingSize is the largest recording file, in bytes.
	MaxRecordingSize = 64 << 20

	// MaxExchanges is the largest number of exchanges in a recording.
	MaxExchanges = 10_000

	// maxRecordedRequest leaves room for requests that the driver refused.
	maxRecordedRequest = 2 * nsm.MaxRequestSize
)

// Recording is a sequence of exchanges with an NSM; the package documentation
// describes its file format.
type Recording struct {
	// Comment says where the recording comes from.
	Comment string

	// Started is the time of the recording's start. A document is to be judged by
	// a clock set to its own exchange's time, At.
	Started time.Time

	// Root is the certificate that vouches for the documents in the recording,
	// or nil if it is AWS's.
	Root *x509.Certificate

	// Exchanges are the requests and their responses, in order.
	Exchanges []Exchange
}

// Exchange is one request and what came of it.
type Exchange struct {
	// Comment says what the exchange shows.
	Comment string

	// At is the time of the request.
	At time.Time

	// Request is the request's CBOR.
	Request []byte

	// Response is the response's CBOR, or nil when there was an error.
	Response []byte

	// Error is the text of the device's error when there was no response.
	Error string

	// Failure is what a program tells that error by, or nil if there is no
	// error or nothing but its text is known.
	Failure *Failure
}

// cloneExchanges returns exchanges that share no bytes with these.
func cloneExchanges(exchanges []Exchange) []Exchange {
	cloned := slices.Clone(exchanges)
	for i := range cloned {
		e := &cloned[i]
		e.Request, e.Response = slices.Clone(e.Request), slices.Clone(e.Response)
		if e.Failure != nil {
			failure := *e.Failure
			failure.Is = slices.Clone(failure.Is)
			e.Failure = &failure
		}
	}
	return cloned
}

// The JSON forms, in which bytes are lower-case hexadecimal.
type (
	recordingJSON struct {
		Format    string        `json:"format"`
		Comment   string        `json:"comment,omitempty"`
		Started   time.Time     `json:"started"`
		Root      hexBytes      `json:"root,omitempty"`
		Exchanges exchangesJSON `json:"exchanges"`
	}
	exchangesJSON []exchangeJSON
	exchangeJSON  struct {
		Comment  string    `json:"comment,omitempty"`
		At       time.Time `json:"at"`
		Request  hexBytes  `json:"request"`
		Response hexBytes  `json:"response,omitempty"`
		Error    string    `json:"error,omitempty"`
		Failure  *Failure  `json:"failure,omitempty"`
	}
	hexBytes []byte
)

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	*h = b
	return err
}

// UnmarshalJSON counts while it reads, because an exchange takes far more
// memory than the two bytes of text that it may have.
func (e *exchangesJSON) UnmarshalJSON(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if start, err := decoder.Token(); err != nil {
		return err
	} else if start != json.Delim('[') {
		return fmt.Errorf("the exchanges are not a list")
	}
	*e = nil
	for decoder.More() {
		if len(*e) == MaxExchanges {
			return fmt.Errorf("more than %d exchanges", MaxExchanges)
		}
		var exchange exchangeJSON
		if err := decoder.Decode(&exchange); err != nil {
			return fmt.Errorf("exchange %d: %w", len(*e), err)
		}
		*e = append(*e, exchange)
	}
	return nil
}

// Write writes the recording as JSON.
func (r *Recording) Write(w io.Writer) error {
	if r.Started.IsZero() || !writable(r.Started) {
		return recordingError("Write", "", fmt.Errorf("no start time, or an impossible one"))
	}
	file := recordingJSON{Format: recordingFormat, Comment: r.Comment, Started: r.Started.UTC(), Exchanges: exchangesJSON{}}
	if r.Root != nil {
		file.Root = r.Root.Raw
	}
	for i, e := range r.Exchanges {
		if err := e.check(); err != nil {
			return recordingError("Write", fmt.Sprintf("exchange %d", i), err)
		}
		file.Exchanges = append(file.Exchanges, exchangeJSON{Comment: e.Comment, At: e.At.UTC(), Request: e.Request, Response: e.Response, Error: e.Error, Failure: e.Failure})
	}
	if len(r.Exchanges) > MaxExchanges {
		return tooManyExchanges(len(r.Exchanges))
	}
	b, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return recordingError("Write", "", err)
	}
	if _, err := w.Write(append(b, '\n')); err != nil {
		return recordingError("Write", "", err)
	}
	return nil
}

// WriteFile writes the recording to a file that only its owner may read, since
// the randomness in it may be secret.
func (r *Recording) WriteFile(path string) error {
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return recordingError("Write", "", err)
	}
	return nil
}

// LoadRecording reads a recording from a file.
func LoadRecording(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, recordingError("ReadRecording", "", err)
	}
	defer f.Close()
	return ReadRecording(f)
}

// ReadRecording reads a recording, strictly: unknown fields, another format or
// version, and anything beyond the bounds fail with [ReasonRecording].
func ReadRecording(r io.Reader) (*Recording, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxRecordingSize+1))
	if err != nil {
		return nil, recordingError("ReadRecording", "", err)
	}
	if len(b) > MaxRecordingSize {
		return nil, recordingError("ReadRecording", "", fmt.Errorf("more than %d bytes", MaxRecordingSize))
	}
	var file recordingJSON
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, recordingError("ReadRecording", "", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, recordingError("ReadRecording", "", fmt.Errorf("more data after the recording"))
	}
	if file.Format != recordingFormat && file.Format != recordingFormat1 {
		return nil, recordingError("ReadRecording", "", fmt.Errorf("format %.40q, want %q", file.Format, recordingFormat))
	}
	if file.Started.IsZero() || !writable(file.Started) {
		return nil, recordingError("ReadRecording", "", fmt.Errorf("no start time, or an impossible one"))
	}
	recording := &Recording{Comment: file.Comment, Started: file.Started}
	if len(file.Root) > 0 {
		if recording.Root, err = x509.ParseCertificate(file.Root); err != nil {
			return nil, recordingError("ReadRecording", "root certificate", err)
		}
	}
	for i, e := range file.Exchanges {
		exchange := Exchange{Comment: e.Comment, At: e.At, Request: e.Request, Response: e.Response, Error: e.Error, Failure: e.Failure}
		if len(exchange.Response) == 0 {
			exchange.Response = nil
		}
		err := exchange.check()
		if err == nil && file.Format == recordingFormat1 && e.Failure != nil {
			err = fmt.Errorf("a failure, which %q does not have", file.Format)
		}
		if err != nil {
			return nil, recordingError("ReadRecording", fmt.Sprintf("exchange %d", i), err)
		}
		recording.Exchanges = append(recording.Exchanges, exchange)
	}
	return recording, nil
}

// check holds an exchange to the bounds of the format.
func (e *Exchange) check() error {
	switch {
	case len(e.Request) > maxRecordedRequest:
		return fmt.Errorf("a request of %d bytes, want at most %d", len(e.Request), maxRecordedRequest)
	case len(e.Response) > nsm.MaxResponseSize:
		return fmt.Errorf("a response of %d bytes, want at most %d", len(e.Response), nsm.MaxResponseSize)
	case !writable(e.At):
		return fmt.Errorf("the time %v cannot be written", e.At)
	case (len(e.Response) == 0) == (e.Error == ""):
		return fmt.Errorf("want either a response or an error")
	case e.Failure != nil && e.Error == "":
		return fmt.Errorf("a failure without an error")
	case e.Failure != nil:
		return e.Failure.check()
	}
	return nil
}

// writable tells whether JSON can hold a time in UTC.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

func recordingError(op, field string, err error) error {
	return &Error{Op: op, Reason: ReasonRecording, Field: field, Err: err}
}

func tooManyExchanges(n int) error {
	return &Error{Reason: ReasonRecording, Detail: fmt.Sprintf("a recording of %d exchanges, want at most %d", n, MaxExchanges)}
}
