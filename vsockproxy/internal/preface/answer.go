package preface

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// maxQuoted bounds what an error quotes of a proxy's answer, in bytes.
const maxQuoted = 256

// ReadAnswer reads a proxy's answer to CONNECT, and no byte beyond it. It returns the
// three digits of the status and the text behind them. Errors about what the proxy sent
// are [*Error]. Others are r's.
func ReadAnswer(r io.Reader) (code, text string, err error) {
	head, err := readAnswerHead(r)
	if err != nil {
		return "", "", err
	}
	line, _, _ := strings.Cut(head, "\r\n")
	code, text, ok := parseStatusLine(line)
	if !ok {
		return "", "", badAnswer("the answer to CONNECT begins with %+q, not with HTTP/1.1 and a status", quoted(line))
	}
	return code, text, nil
}

// readAnswerHead reads one byte at a time, because what follows the head belongs
// to the stream and must stay in the socket.
func readAnswerHead(r io.Reader) (string, error) {
	const begin = "HTTP/1."
	var head []byte
	for len(head) < MaxConnectRequest {
		var b [1]byte
		_, err := io.ReadFull(r, b[:])
		switch {
		case endsEarly(err) && len(head) == 0:
			return "", &Error{Refused, "the connection was closed instead of answering CONNECT; has the proxy a Connect route, and what does its log say?"}
		case endsEarly(err):
			return "", badAnswer("the connection was closed in the middle of the answer to CONNECT, after %+q", quoted(string(head)))
		case err != nil:
			return "", err
		}
		head = append(head, b[0])
		if n := min(len(head), len(begin)); string(head[:n]) != begin[:n] {
			return "", badAnswer("the answer to CONNECT is not HTTP, it begins with %+q", head)
		}
		if bytes.HasSuffix(head, []byte(endOfHead)) {
			return string(head[:len(head)-len(endOfHead)]), nil
		}
	}
	return "", badAnswer("the answer to CONNECT is longer than %d bytes", MaxConnectRequest)
}

func badAnswer(format string, args ...any) error {
	return &Error{Handshake, fmt.Sprintf(format, args...) + "; does the proxy have a Connect route?"}
}

func quoted(s string) string { return s[:min(len(s), maxQuoted)] }

// parseStatusLine reads "HTTP/1.1 200 text".
func parseStatusLine(line string) (code, text string, ok bool) {
	version, rest, _ := strings.Cut(line, " ")
	code, text, _ = strings.Cut(rest, " ")
	if version != "HTTP/1.1" && version != "HTTP/1.0" || len(code) != 3 {
		return "", "", false
	}
	for _, digit := range []byte(code) {
		if digit < '0' || digit > '9' {
			return "", "", false
		}
	}
	return code, text, true
}
