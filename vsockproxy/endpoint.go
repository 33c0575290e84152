package vsockproxy

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

const (
	// ParentCID is the context ID under which a Nitro enclave reaches its parent
	// instance (the CID that AWS's vsock-proxy of aws-nitro-enclaves-cli binds).
	// It is not VMADDR_CID_HOST (2) of <linux/vm_sockets.h>, which in an enclave
	// is nobody.
	ParentCID = 3

	// AnyCID listens on every context ID of this machine: VMADDR_CID_ANY of
	// <linux/vm_sockets.h>. It cannot be dialed.
	AnyCID = 0xFFFFFFFF

	// maxEndpointLength is the longest text, in bytes, that ParseEndpoint reads.
	maxEndpointLength = 1024

	// maxSocketPath is the longest Unix socket path, in bytes, that an endpoint
	// may have: sun_path of Linux is 108 bytes with its NUL (unix(7)). Other
	// systems may allow a few bytes less and say so when the path is used.
	maxSocketPath = 107
)

// portAny is VMADDR_PORT_ANY of <linux/vm_sockets.h>. As a port number it means
// "none in particular", so no endpoint may carry it; listening on port 0 asks
// the kernel for a free port instead.
const portAny = 0xFFFFFFFF

const acceptedForms = "accepted forms: vsock://3:8000  hybrid:///run/v.sock?port=8000  unix:///run/p.sock  tcp://127.0.0.1:8000"

type endpointKind uint8

const (
	kindNone endpointKind = iota
	kindVsock
	kindHybrid
	kindUnix
	kindTCP
)

// Endpoint is one end of the channel between an enclave and its parent. It is a
// comparable value and safe to copy. The zero Endpoint is nowhere: dialing it
// or listening on it fails with [ReasonInvalidEndpoint].
//
// Constructors do not fail; what they were given is checked on use. Values from
// [ParseEndpoint] have been checked.
type Endpoint struct {
	kind      endpointKind
	cid, port uint32
	where     string // a socket path, or host:port for TCP
}

// Vsock is AF_VSOCK port port on context ID cid (vsock(7)). To reach the parent
// from inside a Nitro enclave, use Vsock(ParentCID, port). To listen, use
// Vsock(AnyCID, port); port 0 then lets the kernel choose.
func Vsock(cid, port uint32) Endpoint {
	return Endpoint{kind: kindVsock, cid: cid, port: port}
}

// HybridVsock is vsock port port behind the Unix socket path, as Firecracker and
// Cloud Hypervisor expose it on the host (Firecracker, docs/vsock.md).
// See the package documentation for what dialing and listening mean.
func HybridVsock(path string, port uint32) Endpoint {
	return Endpoint{kind: kindHybrid, where: path, port: port}
}

// Unix is a plain stream socket at path, which must be absolute.
func Unix(path string) Endpoint {
	return Endpoint{kind: kindUnix, where: path}
}

// TCP is a TCP address "host:port", for development on a machine without vsock.
// An IPv6 address goes in brackets. Listening on port 0 lets the system choose.
func TCP(hostport string) Endpoint {
	return Endpoint{kind: kindTCP, where: hostport}
}

// IsZero reports whether e is the zero Endpoint.
func (e Endpoint) IsZero() bool { return e == Endpoint{} }

// Network returns the transport: "vsock", "hybrid", "unix" or "tcp", and the empty
// string for the zero Endpoint.
func (e Endpoint) Network() string {
	switch e.kind {
	case kindVsock:
		return "vsock"
	case kindHybrid:
		return "hybrid"
	case kindUnix:
		return "unix"
	case kindTCP:
		return "tcp"
	}
	return ""
}

// Address returns "host:port" of a TCP endpoint, and the empty string for others.
func (e Endpoint) Address() string {
	if e.kind != kindTCP {
		return ""
	}
	return e.where
}

// String returns the form that [ParseEndpoint] reads; for the zero Endpoint, the
// empty string.
func (e Endpoint) String() string {
	switch e.kind {
	case kindVsock:
		cid := strconv.FormatUint(uint64(e.cid), 10)
		if e.cid == AnyCID {
			cid = "any"
		}
		return fmt.Sprintf("vsock://%s:%d", cid, e.port)
	case kindHybrid:
		return fmt.Sprintf("hybrid://%s?port=%d", escapePath(e.where), e.port)
	case kindUnix:
		return "unix://" + escapePath(e.where)
	case kindTCP:
		return "tcp://" + e.where
	}
	return ""
}

func escapePath(path string) string {
	return (&url.URL{Path: path}).EscapedPath()
}

// ParseEndpoint reads one of
//
//	vsock://CID:PORT             CID is a number, or "any" to listen
//	hybrid:///PATH?port=PORT     PATH is absolute and percent-encoded
//	unix:///PATH
//	tcp://HOST:PORT
//
// Numbers are decimal without sign or leading zeros. The error, always an *Error
// with [ReasonInvalidEndpoint], names the part that was wrong.
func ParseEndpoint(s string) (Endpoint, error) {
	if len(s) > maxEndpointLength {
		return Endpoint{}, parseError("the text is %d bytes long; the limit is %d", len(s), maxEndpointLength)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Endpoint{}, parseError("%q has no scheme such as vsock://", s)
	}
	var e Endpoint
	var err error
	switch scheme {
	case "vsock":
		e, err = parseVsock(rest)
	case "hybrid":
		e, err = parseHybrid(rest)
	case "unix":
		e, err = parseUnix(rest)
	case "tcp":
		e = TCP(rest)
	default:
		return Endpoint{}, parseError("%q has an unknown scheme %q", s, scheme)
	}
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return Endpoint{}, parseError("%q: %v", s, err)
	}
	return e, nil
}

func parseError(format string, args ...any) error {
	return &Error{
		Op:     "ParseEndpoint",
		Reason: ReasonInvalidEndpoint,
		Detail: fmt.Sprintf(format, args...) + "; " + acceptedForms,
	}
}

func parseVsock(rest string) (Endpoint, error) {
	cidText, portText, ok := strings.Cut(rest, ":")
	if !ok {
		return Endpoint{}, fmt.Errorf("no port after the context ID")
	}
	cid := uint32(AnyCID)
	if cidText != "any" {
		var err error
		if cid, err = parseUint32("context ID", cidText); err != nil {
			return Endpoint{}, err
		}
	}
	port, err := parseUint32("port", portText)
	if err != nil {
		return Endpoint{}, err
	}
	return Vsock(cid, port), nil
}

func parseHybrid(rest string) (Endpoint, error) {
	pathText, query, ok := strings.Cut(rest, "?")
	if !ok {
		return Endpoint{}, fmt.Errorf("no ?port= after the path")
	}
	portText, ok := strings.CutPrefix(query, "port=")
	if !ok {
		return Endpoint{}, fmt.Errorf("the query %q is not port=PORT", query)
	}
	port, err := parseUint32("port", portText)
	if err != nil {
		return Endpoint{}, err
	}
	path, err := parsePath(pathText)
	return HybridVsock(path, port), err
}

func parseUnix(rest string) (Endpoint, error) {
	if strings.Contains(rest, "?") {
		return Endpoint{}, fmt.Errorf("a unix endpoint takes no query; write a question mark in a path as %%3F")
	}
	path, err := parsePath(rest)
	return Unix(path), err
}

func parsePath(text string) (string, error) {
	if strings.Contains(text, "#") {
		return "", fmt.Errorf("an endpoint takes no fragment; write a hash sign in a path as %%23")
	}
	path, err := url.PathUnescape(text)
	if err != nil {
		return "", fmt.Errorf("path: %w", err)
	}
	return path, nil
}

func parseUint32(what, text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, fmt.Errorf("%s %q is not a decimal number between 0 and %d", what, text, uint32(1<<32-1))
	}
	return uint32(n), nil
}

// check says what is wrong with e whatever it is used for.
func (e Endpoint) check() error {
	switch e.kind {
	case kindVsock:
		if e.port == portAny {
			return fmt.Errorf("port %d is VMADDR_PORT_ANY; to listen on a free port, use port 0", e.port)
		}
	case kindHybrid:
		if e.port == 0 || e.port == portAny {
			return fmt.Errorf("port %d is not a vsock port; use 1 to %d", e.port, uint32(portAny-1))
		}
		return checkSocketPath(e.where)
	case kindUnix:
		return checkSocketPath(e.where)
	case kindTCP:
		return checkTCP(e.where)
	default:
		return fmt.Errorf("the endpoint is empty")
	}
	return nil
}

func checkSocketPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return fmt.Errorf("socket path %q is not absolute", path)
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("socket path %q names a directory", path)
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("socket path %q contains a NUL byte", path)
	case len(path) > maxSocketPath:
		return fmt.Errorf("socket path is %d bytes long; the limit of a Unix socket address is %d", len(path), maxSocketPath)
	}
	return nil
}

func checkTCP(hostport string) error {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return fmt.Errorf("address %q is not host:port (an IPv6 address goes in brackets)", hostport)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q is not a decimal number between 0 and 65535", port)
	}
	if _, _, err := rules.ParseHost(host); err != nil {
		return fmt.Errorf("host %q: %w", host, err)
	}
	return nil
}

// checkDial adds what is wrong only when dialing.
func (e Endpoint) checkDial() error {
	if err := e.check(); err != nil {
		return err
	}
	switch e.kind {
	case kindVsock:
		if e.cid == AnyCID {
			return fmt.Errorf("context ID \"any\" is for listening; to reach the parent of a Nitro enclave, use %d", ParentCID)
		}
		if e.port == 0 {
			return fmt.Errorf("port 0 is for listening; name the port that the proxy listens on")
		}
	case kindTCP:
		if strings.HasSuffix(e.where, ":0") {
			return fmt.Errorf("port 0 is for listening; name the port that the proxy listens on")
		}
	}
	return nil
}
