package preface

import (
	"errors"
	"fmt"
	"io"
)

// Kind says what is wrong with what a peer sent.
type Kind int

// The kinds of an [Error].
const (
	Connect        Kind = iota + 1 // no proper CONNECT request
	ClientHello                    // no proper ClientHello
	NoServerName                   // a ClientHello that names no server
	ServerName                     // or names one otherwise than TLS allows
	EncryptedHello                 // or encrypts the name
	ProxyHeader                    // no proper PROXY header
	Handshake                      // no proper answer
	Refused                        // the end of the connection in place of an answer
)

// Error is about what a peer sent.
type Error struct {
	Kind   Kind
	Detail string
}

// Error returns the detail.
func (e *Error) Error() string { return e.Detail }

func refuse(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Sprintf(format, args...)}
}

// endsEarly reports whether err says that the stream ended.
func endsEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
