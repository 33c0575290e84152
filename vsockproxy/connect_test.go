package vsockproxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// plainDial dials without a CONNECT, for tests that write their own.
func (r *running) plainDial(t *testing.T) conntest.Duplex {
	t.Helper()
	plain := *r
	plain.Connect = false
	return plain.dial(t)
}

// dialTo asks for address.
func (r *running) dialTo(t *testing.T, address string) conntest.Duplex {
	t.Helper()
	conn, err := r.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(conntest.Duplex)
}

func startConnect(t *testing.T, tr transport, p *Proxy) *running {
	t.Helper()
	p.Route = Connect()
	r := start(t, tr, p)
	r.Connect = true
	return r
}

// One vsock port, one http.Transport, two servers; what isn't listed is refused
// with words.
func TestConnectReachesListedServers(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		var clients []*http.Client
		var urls []string
		var entries []string
		for _, text := range []string{"kms", "sts"} {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
			t.Cleanup(server.Close)
			port := portOf(t, server.Listener.Addr().String())
			clients = append(clients, server.Client())
			urls = append(urls, "https://example.com:"+port+"/")
			entries = append(entries, "example.com:"+port, "127.0.0.1:"+port)
		}
		r := startConnect(t, tr, &Proxy{Allow: mustAllow(t, entries...), Resolver: fakeDNS{"example.com": {"127.0.0.1"}}})
		transport := clients[0].Transport.(*http.Transport).Clone() // httptest's servers share a certificate
		transport.DialContext = r.DialContext
		client := &http.Client{Transport: transport}
		for i, want := range []string{"kms", "sts"} {
			resp, err := client.Get(urls[i])
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != want {
				t.Errorf("%s answered %q, %v; want %q", urls[i], body, err, want)
			}
		}
		_, err := client.Get("https://other.example/")
		e := wantReason(t, err, ReasonNotAllowed)
		if e.Op != "DialContext" || e.Endpoint != r.Endpoint || !strings.Contains(e.Detail, "other.example:443 is not on the allowlist") {
			t.Errorf("%v does not say what is wrong", err)
		}
		line := r.log.wantEnd(t, string(ReasonNotAllowed))
		if line["target"] != "other.example:443" {
			t.Errorf("log line %v", line)
		}
		transport.CloseIdleConnections()
		for range urls {
			line := r.log.wantLeft(t)
			if target, _ := line["target"].(string); !strings.HasPrefix(target, "example.com:") {
				t.Errorf("log line %v", line)
			}
		}
	})
}

// HTTP clients of other make speak to the proxy, and show its reason.
func TestConnectServesOrdinaryHTTPClients(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer server.Close()
	r := startConnect(t, transports[2], &Proxy{Allow: mustAllow(t, server.Listener.Addr().String())})
	client := server.Client()
	client.Transport.(*http.Transport).Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: r.Endpoint.where})
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "hello" {
		t.Errorf("answer %q", body)
	}
	_, err = client.Get("https://other.example/")
	if err == nil || !strings.Contains(err.Error(), "not-allowed: the target other.example:443 is not on the allowlist") {
		t.Errorf("net/http says %v", err)
	}
	client.CloseIdleConnections()
}

var connectRefusals = []struct {
	name, request string
	status        string // the answer begins with it
	reason        Reason
	says          string // in the log
}{
	{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"one letter", "X", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"TLS", "\x16\x03\x01", "400 invalid-connect", ReasonInvalidConnect, "set Dialer.Connect"},
	{"lower case", "connect a.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"no port", "CONNECT a.example HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not host:port"},
	{"port 0", "CONNECT a.example:0 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "port"},
	{"port 65979, 443 in 16 bits", "CONNECT a.example:65979 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "65979"},
	{"named port", "CONNECT a.example:https HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "https"},
	{"port with a sign", "CONNECT a.example:+443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "+443"},
	{"URL", "CONNECT https://a.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not host:port"},
	{"path", "CONNECT a.example:443/x HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "443/x"},
	{"user", "CONNECT user@a.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "@"},
	{"wildcard", "CONNECT *.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "*"},
	{"only a wildcard", "CONNECT *:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "*"},
	{"no host", "CONNECT :443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "empty"},
	{"network", "CONNECT 10.0.0.0/8:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "10.0.0.0/8"},
	{"short IPv4", "CONNECT 127.1:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "127.1"},
	{"NUL", "CONNECT a.example\x00:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not printable ASCII"},
	{"folds to ASCII", "CONNECT \u212ams.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not printable ASCII"},
	{"no target", "CONNECT  HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "empty"},
	{"two spaces", "CONNECT  a.example:443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"tab", "CONNECT a.example:443\tHTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"space at the end", "CONNECT a.example:443 HTTP/1.1 \r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"no version", "CONNECT a.example:443\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "not CONNECT"},
	{"HTTP/2", "CONNECT a.example:443 HTTP/2.0\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "neither HTTP/1.1"},
	{"HTTP/1.2", "CONNECT a.example:443 HTTP/1.2\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "neither HTTP/1.1"},
	{"bare line feeds", "CONNECT a.example:443 HTTP/1.1\n\n", "400 invalid-connect", ReasonInvalidConnect, "carriage return"},
	{"bare line feed in a field", "CONNECT a.example:443 HTTP/1.1\r\nA: b\nHost: c\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "control character"},
	{"bare carriage return", "CONNECT a.example:443 HTTP/1.1\r\nA: b\rC: d\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "control character"},
	{"NUL in a field", "CONNECT a.example:443 HTTP/1.1\r\nA: \x00\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "control character"},
	{"folded field", "CONNECT a.example:443 HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "field 2: the name"},
	{"no colon", "CONNECT a.example:443 HTTP/1.1\r\nA b\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "no colon"},
	{"space before the colon", "CONNECT a.example:443 HTTP/1.1\r\nContent-Length : 5\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "the name"},
	{"no field name", "CONNECT a.example:443 HTTP/1.1\r\n: b\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "the name"},
	{"Content-Length", "CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "400 invalid-connect", ReasonInvalidConnect, "no body"},
	{"Content-Length 0", "CONNECT a.example:443 HTTP/1.1\r\ncontent-length: 0\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "no body"},
	{"Transfer-Encoding", "CONNECT a.example:443 HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "no body"},
	{"too long", "CONNECT a.example:443 HTTP/1.1\r\nA: " + strings.Repeat("b", preface.MaxConnectRequest) + "\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "longer than 8192"},
	{"many bytes too long", "CONNECT " + strings.Repeat("b", 4*preface.MaxConnectRequest), "400 invalid-connect", ReasonInvalidConnect, "longer than 8192"},
	{"long target", "CONNECT " + strings.Repeat("b", 2000) + ":443 HTTP/1.1\r\n\r\n", "400 invalid-connect", ReasonInvalidConnect, "2004 bytes"},
	{"not listed", "CONNECT b.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "403 not-allowed", ReasonNotAllowed, "b.example:443"},
	{"port not listed", "CONNECT a.example:444 HTTP/1.1\r\n\r\n", "403 not-allowed", ReasonNotAllowed, "a.example:444"},
	{"address not listed", "CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n", "403 not-allowed", ReasonNotAllowed, "127.0.0.1:443"},
	{"metadata", "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n", "403 not-allowed", ReasonNotAllowed, "169.254.169.254:80"},
	{"name that does not resolve", "CONNECT gone.example:443 HTTP/1.1\r\n\r\n", "502 resolve-failed", ReasonResolve, "gone.example"},
	{"name that leads inside", "CONNECT a.example:443 HTTP/1.1\r\n\r\n", "502 forbidden-address", ReasonForbiddenAddress, "10.0.0.1"},
}

func TestConnectRefusals(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		closed := closedPort(t)
		r := startConnect(t, tr, &Proxy{
			Allow:    mustAllow(t, "a.example:443", "gone.example:443", closed),
			Resolver: fakeDNS{"a.example": {"10.0.0.1"}},
		})
		refused := func(t *testing.T, request, status string, reason Reason, says string) {
			conn := r.plainDial(t)
			_, _ = io.WriteString(conn, request) // may fail when it is too long to be read
			answer, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("read the answer: %v", err)
			}
			if !strings.HasPrefix(string(answer), "HTTP/1.1 "+status+": ") {
				t.Errorf("answer %q, want %s", answer, status)
			}
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: http.MethodConnect})
			if err != nil || resp.ContentLength != 0 || !resp.Close {
				t.Errorf("net/http reads the answer %q as %+v, %v", answer, resp, err)
			}
			if strings.Contains(string(answer), "10.0.0.1") {
				t.Errorf("the answer %q shows the parent's network", answer)
			}
			_ = conn.Close()
			line := r.log.wantEnd(t, string(reason))
			if text, _ := line["error"].(string); !strings.Contains(text, says) {
				t.Errorf("log line %v does not say %q", line, says)
			}
		}
		for _, test := range connectRefusals {
			t.Run(test.name, func(t *testing.T) { refused(t, test.request, test.status, test.reason, test.says) })
		}
		t.Run("nothing listens", func(t *testing.T) {
			refused(t, "CONNECT "+closed+" HTTP/1.1\r\n\r\n", "502 refused", ReasonRefused, closed)
		})
		for name, request := range map[string]string{"without a word": "", "in the middle": "CONNECT a.example:443 HT"} {
			t.Run("leaves "+name, func(t *testing.T) {
				conn := r.plainDial(t)
				conntest.Write(t, conn, request)
				_ = conn.CloseWrite()
				if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 400 invalid-connect: ") {
					t.Errorf("answer %q", answer)
				}
				_ = conn.Close()
				if line := r.log.wantEnd(t, string(ReasonInvalidConnect)); !strings.Contains(line["error"].(string), name) {
					t.Errorf("log line %v does not say %q", line, name)
				}
			})
		}
	})
}

// The target does not answer.
func TestConnectTimesOut(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := startConnect(t, tr, &Proxy{Allow: mustAllow(t, "a.example:443"), Resolver: silentDNS{}, DialTimeout: time.Millisecond})
		_, err := r.DialContext(t.Context(), "tcp", "a.example:443")
		if e := wantReason(t, err, ReasonTimeout); !e.Timeout() || !e.Remote || !strings.Contains(e.Detail, "504") {
			t.Errorf("%v", e)
		}
		r.log.wantEnd(t, string(ReasonTimeout))
	})
}

// Every spelling of the request that HTTP allows, cut up in every way.
func TestConnectRequests(t *testing.T) {
	target := origin(t, echo)
	allow := mustAllow(t, target, "name.example:"+portOf(t, target))
	dns := fakeDNS{"name.example": {"127.0.0.1"}}
	r := startConnect(t, transports[1], &Proxy{Allow: allow, Resolver: dns})
	for name, request := range map[string]string{
		"plain":         "CONNECT " + target + " HTTP/1.1\r\n\r\n",
		"HTTP/1.0":      "CONNECT " + target + " HTTP/1.0\r\n\r\n",
		"fields":        "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: x\r\nProxy-Authorization: Basic c2VjcmV0\r\nX:\r\nY:\t z\xff\r\n\r\n",
		"wrong host":    "CONNECT " + target + " HTTP/1.1\r\nHost: other.example:1\r\nHost: another.example\r\n\r\n",
		"name":          "CONNECT name.example:" + portOf(t, target) + " HTTP/1.1\r\n\r\n",
		"capitals, dot": "CONNECT NAME.example.:" + portOf(t, target) + " HTTP/1.1\r\n\r\n",
		"longest":       "CONNECT " + target + " HTTP/1.1\r\nA: " + strings.Repeat("b", preface.MaxConnectRequest-len("CONNECT "+target+" HTTP/1.1\r\nA: \r\n\r\n")) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, early := range []string{"", "the stream\r\n\r\nCONNECT x HTTP/1.1\r\n\r\n\x00\n"} {
				conn := r.plainDial(t)
				conntest.Write(t, conn, request+early)
				conntest.WantRead(t, conn, "HTTP/1.1 200 Connection established\r\n\r\n"+early)
				conntest.Write(t, conn, "more")
				conntest.WantRead(t, conn, "more")
				_ = conn.CloseWrite()
				if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
					t.Errorf("after the end: %q, %v", rest, err)
				}
				line := r.log.wantEnd(t, endClosed)
				if n := float64(len(early + "more")); line["bytes_to_target"] != n || line["bytes_to_enclave"] != n {
					t.Errorf("counts in %v, want %v each way: the request and its answer are no part of the stream", line, n)
				}
			}
			for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader} {
				got, early, err := preface.ReadConnect(wrap(strings.NewReader(request)))
				if err != nil || !allow.list.Allows(got, rules.Source{}) || len(early) != 0 {
					t.Errorf("cut up: %v, %q, %v", got, early, err)
				}
			}
		})
	}
}

// The target speaks first, and at once: its word may come together with the
// proxy's answer.
func TestConnectKeepsTheFirstWord(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		target := origin(t, func(conn *net.TCPConn) {
			_, _ = io.WriteString(conn, "220 at your service\r\n")
			echo(conn)
		})
		r := startConnect(t, tr, &Proxy{Allow: mustAllow(t, target)})
		conn := r.dialTo(t, target)
		conntest.WantRead(t, conn, "220 at your service\r\n")
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
	})
}

// What a Dialer makes of proxies that answer all kinds of things.
func TestDialerReadsAnswers(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		reason       Reason // empty for success
		says         string
	}{
		{"200", "HTTP/1.1 200 OK\r\n\r\n", "", ""},
		{"HTTP/1.0", "HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n", "", ""},
		{"no words", "HTTP/1.1 200\r\n\r\n", "", ""},
		{"closed", "", ReasonRefused, "instead of answering"},
		{"cut", "HTTP/1.1 200 OK\r\n", ReasonInvalidHandshake, "in the middle"},
		{"TLS alert", "\x15\x03\x03\x00\x02\x02\x46", ReasonInvalidHandshake, `\x15`},
		{"SSH", "SSH-2.0-x\r\n", ReasonInvalidHandshake, `"S"`},
		{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", ReasonInvalidHandshake, "not HTTP"},
		{"HTTP/1.x", "HTTP/1.x 200 OK\r\n\r\n", ReasonInvalidHandshake, "HTTP/1.x"},
		{"no status", "HTTP/1.1\r\n\r\n", ReasonInvalidHandshake, "not with HTTP/1.1 and a status"},
		{"short status", "HTTP/1.1 20 OK\r\n\r\n", ReasonInvalidHandshake, "not with HTTP/1.1 and a status"},
		{"long status", "HTTP/1.1 2000 OK\r\n\r\n", ReasonInvalidHandshake, "not with HTTP/1.1 and a status"},
		{"signed status", "HTTP/1.1 +20 OK\r\n\r\n", ReasonInvalidHandshake, "not with HTTP/1.1 and a status"},
		{"endless", "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 2000), ReasonInvalidHandshake, "longer than 8192"},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", ReasonFailed, "100"},
		{"400", "HTTP/1.1 400 Bad Request\r\n\r\n", ReasonInvalidConnect, "Bad Request"},
		{"403", "HTTP/1.1 403 Forbidden\r\n\r\n", ReasonNotAllowed, "Forbidden"},
		{"407", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ReasonFailed, "407"},
		{"502", "HTTP/1.1 502 Bad Gateway\r\n\r\n", ReasonUnreachable, "Bad Gateway"},
		{"503", "HTTP/1.1 503 x\r\n\r\n", ReasonUnreachable, "503"},
		{"504", "HTTP/1.1 504 x\r\n\r\n", ReasonTimeout, "504"},
		{"502 with a reason", "HTTP/1.1 502 resolve-failed: no such name\r\n\r\n", ReasonResolve, "no such name"},
		{"408 with a reason", "HTTP/1.1 408 timeout: x\r\n\r\n", ReasonTimeout, "408"},
		{"reason that is not a proxy's", "HTTP/1.1 502 invalid-options: x\r\n\r\n", ReasonUnreachable, "invalid-options"},
		{"reason of another status", "HTTP/1.1 502 not-allowed: x\r\n\r\n", ReasonUnreachable, "not-allowed"},
		{"control characters", "HTTP/1.1 502 \x1b[31m\nend=closed\xff\r\n\r\n", ReasonUnreachable, `\x1b[31m\nend=closed\xff`},
		{"long words", "HTTP/1.1 502 " + strings.Repeat("x", 5000) + "\r\n\r\n", ReasonUnreachable, "502"},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := make(chan string, 1)
			address := origin(t, func(conn *net.TCPConn) {
				var request []byte
				for b := make([]byte, 1); !bytes.HasSuffix(request, []byte("\r\n\r\n")); request = append(request, b...) {
					if _, err := conn.Read(b); err != nil {
						break
					}
				}
				asked <- string(request)
				_, _ = io.WriteString(conn, test.answer)
				_ = conn.CloseWrite()
				_, _ = io.Copy(io.Discard, conn)
			})
			d := Dialer{Endpoint: TCP(address), Connect: true, Timeout: time.Minute}
			conn, err := d.DialContext(t.Context(), "tcp", "Name.Example.:443")
			if want := "CONNECT name.example:443 HTTP/1.1\r\nHost: name.example:443\r\n\r\n"; <-asked != want {
				t.Errorf("the request is not %q", want)
			}
			if test.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				return
			}
			e := wantReason(t, err, test.reason)
			if conn != nil {
				t.Error("a connection beside an error")
			}
			if e.Op != "DialContext" || e.Endpoint != d.Endpoint || !strings.Contains(e.Detail, test.says) {
				t.Errorf("%v; does not say %q", err, test.says)
			}
			wantOneLine(t, err)
		})
	}
}

func TestDialerRefusesToAskFor(t *testing.T) {
	l := mustListen(t, TCP("127.0.0.1:0"))
	d := Dialer{Endpoint: TCP(l.Addr().String()), Connect: true}
	for address, reason := range map[string]Reason{
		"":                                 ReasonInvalidConnect,
		"a.example":                        ReasonInvalidConnect,
		"a.example:https":                  ReasonInvalidConnect,
		"a.example:0":                      ReasonInvalidConnect,
		"a.example:443 HTTP/1.1\r\nX: y:1": ReasonInvalidConnect,
		"a\r\n.example:443":                ReasonInvalidConnect,
		"fe80::1%eth0:443":                 ReasonInvalidConnect,
		"[fe80::1%eth0]:443":               ReasonInvalidConnect,
		"a.example:80":                     ReasonPlaintext,
	} {
		conn, err := d.DialContext(t.Context(), "tcp", address)
		wantReason(t, err, reason)
		if conn != nil {
			t.Errorf("%q: a connection beside an error", address)
		}
	}
}

// The proxy takes the request and says nothing.
func TestDialerGivesUpOnAnswer(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for name, want := range map[string]Reason{"cancel": ReasonCanceled, "timeout": ReasonTimeout} {
			t.Run(name, func(t *testing.T) {
				l, e := tr.listen(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan struct{})
				go func() {
					defer close(done)
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.ReadFull(conn, make([]byte, len("CONNECT")))
					if want == ReasonCanceled {
						cancel()
					}
					_, _ = io.Copy(io.Discard, conn)
					_ = conn.Close()
				}()
				d := Dialer{Endpoint: e, Connect: true, Timeout: time.Minute}
				if want == ReasonTimeout {
					d.Timeout = 50 * time.Millisecond
				}
				_, err := d.DialContext(ctx, "tcp", "a.example:443")
				if e := wantReason(t, err, want); !strings.Contains(e.Detail, "whether it reaches a.example:443") {
					t.Errorf("%v does not say what was asked", e)
				}
				_ = l.Close()
				<-done
			})
		}
	})
}

// Whatever arrives, a request that is believed is one that net/http reads the
// same way: same target, no body, same first byte of the stream.
func FuzzConnect(f *testing.F) {
	for _, test := range connectRefusals {
		if len(test.request) < 4096 {
			f.Add([]byte(test.request))
		}
	}
	f.Add([]byte("CONNECT a.example:443 HTTP/1.1\r\nHost: b\r\n\r\nstream"))
	f.Add([]byte("CONNECT [2001:db8::1]:443 HTTP/1.0\r\nA: b\r\nC:\r\n\r\n\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		asked, early, err := preface.ReadConnect(bytes.NewReader(data))
		if err != nil {
			err = refusal("Serve", "client", err)
			wantOneLine(t, err)
			status := refusalStatus(err)
			if !strings.HasPrefix(status, "400 invalid-connect: ") || len(status) > 300 || !rules.IsPrintableASCII(status) {
				t.Fatalf("status %q", status)
			}
			return
		}
		r := bufio.NewReader(bytes.NewReader(data))
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Fatalf("net/http refuses the request: %v", err)
		}
		other, err := rules.ParseTarget(req.RequestURI)
		if err != nil || other != asked || req.Method != http.MethodConnect {
			t.Fatalf("asked for %v; net/http reads %s %q, %v", asked, req.Method, req.RequestURI, err)
		}
		if req.ContentLength != 0 || req.TransferEncoding != nil {
			t.Fatal("net/http expects a body")
		}
		rest, err := io.ReadAll(r)
		if err != nil && !errors.Is(err, io.EOF) || !bytes.HasPrefix(rest, early) {
			t.Fatalf("the stream begins with %q, net/http says with %q", early, rest)
		}
	})
}

// wantOneLine checks what is written about input that may be anything.
func wantOneLine(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v, want *Error", err, err)
	}
	if len(e.Error()) > 2048 || !rules.IsPrintableASCII(e.Error()) {
		t.Fatalf("the error is long or not one printable line: %q", e.Error())
	}
}

// Whatever a parser says has a Reason.
func TestPrefaceReasons(t *testing.T) {
	for kind := preface.Connect; kind <= preface.Refused; kind++ {
		if prefaceReasons[kind] == "" {
			t.Errorf("kind %d has none", kind)
		}
	}
}
