package preface

import (
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxHandshakeLine bounds either line of the hybrid vsock handshake with its newline, in
// bytes: the longer one, "CONNECT 4294967295\n", has 19.
const maxHandshakeLine = 32

// ReadHybridAnswer reads the answer to the hybrid vsock handshake, "OK <host port>\n"
// (Firecracker, docs/vsock.md). Errors about what the peer sent are [*Error]. Others are
// r's.
func ReadHybridAnswer(r io.Reader) error {
	line, err := ReadLine(r)
	if errors.Is(err, io.EOF) {
		if line == "" {
			return refuse(Refused, "the connection was closed instead of answering CONNECT")
		}
		return refuse(Handshake, "the connection was closed in the middle of the answer %q", line)
	}
	if err != nil {
		return err
	}
	hostPort, ok := strings.CutPrefix(line, "OK ")
	if !ok {
		return refuse(Handshake, "the answer to CONNECT is %q, not OK and a port", line)
	}
	if port, err := strconv.ParseUint(hostPort, 10, 32); err != nil || strconv.FormatUint(port, 10) != hostPort {
		return refuse(Handshake, "the answer to CONNECT is %q: host port %q is not a decimal number between 0 and 4294967295", line, hostPort)
	}
	return nil
}

// ReadLine reads up to and excluding a newline, one byte at a time, because what
// follows the newline belongs to the stream and must stay in the socket. At the
// end of the stream it returns what came before it and io.EOF.
func ReadLine(r io.Reader) (string, error) {
	var line [maxHandshakeLine]byte
	for n := range line {
		if _, err := io.ReadFull(r, line[n:n+1]); err != nil {
			return string(line[:n]), err
		}
		if line[n] == '\n' {
			return string(line[:n]), nil
		}
	}
	return "", refuse(Handshake, "no newline within %d bytes", maxHandshakeLine)
}
