package vsockproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

const endOfHead = "\r\n\r\n"

// byConnect leads each connection to the target that its CONNECT request names
// (RFC 9110, section 9.3.6).
type byConnect struct {
	targets *targetDialer
	patience
}

func (byConnect) String() string { return "HTTP CONNECT" }

func (w byConnect) check(p *Proxy) (way, error) {
	targets, _, err := p.targets()
	if err != nil {
		return nil, err
	}
	w.targets, w.patience = targets, patience(p.HandshakeTimeout)
	return w, nil
}

func (w byConnect) reach(ctx context.Context, c *connection) (net.Conn, error) {
	var t rules.Target
	err := w.read(ctx, c.accepted, "CONNECT request", func() (err error) {
		t, c.early, err = readConnect(c.accepted)
		return err
	})
	var far net.Conn
	if err == nil {
		far, err = w.targets.reach(ctx, c, t)
	}
	if err != nil {
		refuseConnect(ctx, c.accepted, err)
		return nil, err
	}
	answered := false
	defer func() { // also after a panic of the client's connection
		if !answered {
			_ = far.Close()
		}
	}()
	if err := answerConnect(ctx, c.accepted, "200 Connection established", ""); err != nil {
		return nil, fmt.Errorf("write the answer to CONNECT: %w", err)
	}
	answered = true
	return far, nil
}

// readConnect reads a CONNECT request. Early is what came behind it already.
func readConnect(r io.Reader) (t rules.Target, early []byte, err error) {
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
	buf := make([]byte, maxConnectRequest)
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
				return "", nil, malformed(ReasonInvalidConnect, "a line of the request ends without a carriage return")
			}
		}
		switch {
		case endsEarly(err) && n == 0:
			return "", nil, malformed(ReasonInvalidConnect, "the client left without a word")
		case endsEarly(err):
			return "", nil, malformed(ReasonInvalidConnect, "the client left in the middle of its CONNECT request")
		case err != nil:
			return "", nil, err
		}
	}
	return "", nil, malformed(ReasonInvalidConnect, "the request is longer than %d bytes", maxConnectRequest)
}

// checkMethod checks as much of the method as there is.
func checkMethod(request []byte) error {
	const method = "CONNECT "
	if n := min(len(request), len(method)); string(request[:n]) != method[:n] {
		if request[0] == recordHandshake {
			return malformed(ReasonInvalidConnect, "the client speaks TLS without a CONNECT request before it; set Dialer.Connect in the enclave, or use another route")
		}
		return malformed(ReasonInvalidConnect, "the request is not CONNECT host:port HTTP/1.1")
	}
	return nil
}

// parseConnect reads the request line and header fields. It believes the request
// line only; what the Host field says does not matter.
func parseConnect(head string) (rules.Target, error) {
	lines := strings.Split(head, "\r\n")
	request := strings.Split(lines[0], " ")
	if len(request) != 3 || request[0] != "CONNECT" {
		return rules.Target{}, malformed(ReasonInvalidConnect, "the request line is not CONNECT host:port HTTP/1.1")
	}
	if v := request[2]; v != "HTTP/1.1" && v != "HTTP/1.0" {
		return rules.Target{}, malformed(ReasonInvalidConnect, "the version is neither HTTP/1.1 nor HTTP/1.0")
	}
	for i, line := range lines[1:] {
		if err := checkField(line); err != nil {
			return rules.Target{}, malformed(ReasonInvalidConnect, "header field %d: %v", i+1, err)
		}
	}
	// Before case is folded: outside ASCII there are letters that fold into it.
	if !rules.IsPrintableASCII(request[1]) {
		return rules.Target{}, malformed(ReasonInvalidConnect, "the target has bytes that are not printable ASCII")
	}
	t, err := rules.ParseTarget(request[1])
	if err != nil {
		return rules.Target{}, malformed(ReasonInvalidConnect, "%v", err)
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

// answerTimeout bounds how long a client may take to read an answer to CONNECT.
const answerTimeout = time.Second

// answerConnect writes the head of an answer, and waits no longer for a client
// that does not read than for one that is leaving.
func answerConnect(ctx context.Context, client net.Conn, status, fields string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return handshake(ctx, client, func() error {
		_, err := io.WriteString(client, "HTTP/1.1 "+status+"\r\n"+fields+"\r\n")
		return err
	})
}

// refuseConnect tells the client why it is refused, as far as it can. The reason
// stands in the status line, because that is what clients show.
func refuseConnect(ctx context.Context, client net.Conn, err error) {
	status := refusalStatus(err)
	if status == "" || answerConnect(ctx, client, status, "Content-Length: 0\r\nConnection: close\r\n") != nil {
		return
	}
	// Closing with bytes unread makes TCP send a reset, and that may overtake the
	// answer.
	if half, ok := client.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_ = handshake(ctx, client, func() error {
		_, err := io.CopyN(io.Discard, client, maxDiscard)
		return err
	})
}

// refusals is what an enclave is told: the stable reason, and what helps to find
// the fault without giving addresses of the parent's network away. Those are in
// the log.
var refusals = map[Reason]struct{ status, text string }{
	ReasonInvalidConnect:   {"400", ""}, // the error quotes what the client sent
	ReasonNotAllowed:       {"403", ""}, // the same whether or not others may reach it
	ReasonForbiddenAddress: {"502", "the name leads to no address that the proxy may connect to; its log says why"},
	ReasonResolve:          {"502", "the proxy cannot resolve the name"},
	ReasonRefused:          {"502", "nothing accepts connections at the target"},
	ReasonUnreachable:      {"502", "the proxy has no route to the target"},
	ReasonTimeout:          {"504", "the target, or the DNS for its name, does not answer in time"},
	ReasonCanceled:         {"502", "the proxy is ending"},
	ReasonFailed:           {"502", "the proxy cannot reach the target; its log says why"},
}

// refusalStatus is the status line for err, or empty if nobody is there to read
// it.
func refusalStatus(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return ""
	}
	reason := e.Reason
	if _, ok := refusals[reason]; !ok {
		reason = ReasonFailed
	}
	status, text := refusals[reason].status, refusals[reason].text
	if text == "" {
		text = e.Detail
	}
	if errors.Is(err, errUnfinished) {
		status, text = "408", "the CONNECT request was not complete in time"
	}
	return status + " " + plainText(fmt.Sprintf("%s: %s", reason, text))
}

// plainText makes s fit for a status line.
func plainText(s string) string {
	s = s[:min(len(s), maxAnswerText)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// askToConnect asks the proxy at the other end of conn to connect to t. It reads
// no byte beyond the proxy's answer. Errors are *Error if they are about the
// answer.
func askToConnect(conn net.Conn, t rules.Target) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %v HTTP/1.1\r\nHost: %v\r\n\r\n", t, t); err != nil {
		return err
	}
	head, err := readAnswerHead(conn)
	if err != nil {
		return err
	}
	line, _, _ := strings.Cut(head, "\r\n")
	code, text, ok := parseStatusLine(line)
	if !ok {
		return badAnswer("the answer to CONNECT begins with %+q, not with HTTP/1.1 and a status", quoted(line))
	}
	if code[0] == '2' {
		return nil
	}
	return &Error{
		Op:     "DialContext",
		Remote: true,
		Reason: answerReason(code, text),
		Detail: fmt.Sprintf("asked for %v, the proxy answered %s %+q", t, code, quoted(text)),
	}
}

// readAnswerHead reads one byte at a time, because what follows the head belongs
// to the stream and must stay in the socket.
func readAnswerHead(r io.Reader) (string, error) {
	const begin = "HTTP/1."
	var head []byte
	for len(head) < maxConnectRequest {
		var b [1]byte
		_, err := io.ReadFull(r, b[:])
		switch {
		case endsEarly(err) && len(head) == 0:
			return "", &Error{Op: "DialContext", Reason: ReasonRefused, Detail: "the connection was closed instead of answering CONNECT; has the proxy a Connect route, and what does its log say?"}
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
	return "", badAnswer("the answer to CONNECT is longer than %d bytes", maxConnectRequest)
}

func badAnswer(format string, args ...any) error {
	return &Error{Op: "DialContext", Reason: ReasonInvalidHandshake, Detail: fmt.Sprintf(format, args...) + "; does the proxy have a Connect route?"}
}

func quoted(s string) string { return s[:min(len(s), maxAnswerText)] }

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

// answerReason takes the proxy's word for why, if it is one of those that a proxy
// may say, else what the status usually means.
func answerReason(code, text string) Reason {
	word, _, _ := strings.Cut(text, ":")
	if r, ok := refusals[Reason(word)]; ok && (r.status == code || word == string(ReasonTimeout)) {
		return Reason(word)
	}
	switch code {
	case "400":
		return ReasonInvalidConnect
	case "403":
		return ReasonNotAllowed
	case "408", "504":
		return ReasonTimeout
	case "502", "503":
		return ReasonUnreachable
	}
	return ReasonFailed
}
