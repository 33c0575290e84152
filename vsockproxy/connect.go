package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

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
		t, c.early, err = preface.ReadConnect(c.accepted)
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
	code, text, err := preface.ReadAnswer(conn)
	if err != nil {
		return err
	}
	if code[0] == '2' {
		return nil
	}
	return &Error{
		Op:     "DialContext",
		Remote: true,
		Reason: answerReason(code, text),
		Detail: fmt.Sprintf("asked for %v, the proxy answered %s %+q", t, code, text[:min(len(text), maxAnswerText)]),
	}
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
