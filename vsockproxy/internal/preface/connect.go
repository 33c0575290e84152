package preface

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

const endOfHead = "\r\n\r\n"

// ReadConnect reads a CONNECT request. Early is what came behind it already.
func ReadConnect(r io.Reader) (t rules.Target, early []byte, err error) {
	head, early, err := readConnectHead(r)
	if err != nil {
		return rules.Target{}, nil, err
	}
	t, err = parseConnect(head)
	return t, early, err
}

// readConnectHead reads up to the empty line, and returns what comes before it
// and what came after it.
func readConnectHead(r io.Reader) (head string, early []byte, err error) {
	buf := make([]byte, MaxConnectRequest)
	for n := 0; n < len(buf); {
		fresh, err := r.Read(buf[n:])
		had := n
		n += fresh
		// A client of another protocol waits for an answer, and would wait until
		// the handshake timeout for this one.
		if err := checkMethod(buf[:n]); err != nil {
			return "", nil, err
		}
		from := max(had-len(endOfHead), 0)
		if i := bytes.Index(buf[from:n], []byte(endOfHead)); i >= 0 {
			end := from + i
			return string(buf[:end]), buf[end+len(endOfHead) : n], nil
		}
		for i := had; i < n; i++ {
			if buf[i] == '\n' && (i == 0 || buf[i-1] != '\r') {
				return "", nil, refuse(Connect, "a line of the request ends without a carriage return")
			}
		}
		switch {
		case endsEarly(err) && n == 0:
			return "", nil, refuse(Connect, "the client left without a word")
		case endsEarly(err):
			return "", nil, refuse(Connect, "the client left in the middle of its CONNECT request")
		case err != nil:
			return "", nil, err
		}
	}
	return "", nil, refuse(Connect, "the request is longer than %d bytes", MaxConnectRequest)
}

// checkMethod checks as much of the method as there is.
func checkMethod(request []byte) error {
	const method = "CONNECT "
	if n := min(len(request), len(method)); string(request[:n]) != method[:n] {
		if request[0] == recordHandshake {
			return refuse(Connect, "the client speaks TLS without a CONNECT request before it; set Dialer.Connect in the enclave, or use another route")
		}
		return refuse(Connect, "the request is not CONNECT host:port HTTP/1.1")
	}
	return nil
}

// parseConnect reads the request line and header fields. It believes the request
// line only; what the Host field says does not matter.
func parseConnect(head string) (rules.Target, error) {
	lines := strings.Split(head, "\r\n")
	request := strings.Split(lines[0], " ")
	if len(request) != 3 || request[0] != "CONNECT" {
		return rules.Target{}, refuse(Connect, "the request line is not CONNECT host:port HTTP/1.1")
	}
	if v := request[2]; v != "HTTP/1.1" && v != "HTTP/1.0" {
		return rules.Target{}, refuse(Connect, "the version is neither HTTP/1.1 nor HTTP/1.0")
	}
	for i, line := range lines[1:] {
		if err := checkField(line); err != nil {
			return rules.Target{}, refuse(Connect, "header field %d: %v", i+1, err)
		}
	}
	// Before case is folded: outside ASCII there are letters that fold into it.
	if !rules.IsPrintableASCII(request[1]) {
		return rules.Target{}, refuse(Connect, "the target has bytes that are not printable ASCII")
	}
	t, err := rules.ParseTarget(request[1])
	if err != nil {
		return rules.Target{}, refuse(Connect, "%v", err)
	}
	return t, nil
}

// checkField checks one header field (RFC 9112, section 5). It never quotes a
// value, which may be a secret.
func checkField(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New("no colon")
	}
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return !isTokenByte(r) }) >= 0 {
		return errors.New("the name is not one word followed by a colon")
	}
	for _, b := range []byte(value) {
		if b < ' ' && b != '\t' || b == 0x7f {
			return errors.New("the value has a control character")
		}
	}
	switch strings.ToLower(name) {
	case "content-length", "transfer-encoding":
		// What follows the header is the stream. Whoever believes that a body
		// comes first disagrees about where the stream begins.
		return fmt.Errorf("a CONNECT request has no body, so no %s", name)
	}
	return nil
}

// isTokenByte is tchar of RFC 9110, section 5.6.2.
func isTokenByte(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r < 0x80 && strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
