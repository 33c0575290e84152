package vsockproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// Here the parent lies. Between a Dialer in the enclave and a server far away there
// is a relay that knows TLS and does what an attacker in its place could. TLS in the
// enclave has to notice, whatever the transport.

// authority signs certificates, as a public one does.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key}
}

// issue returns a certificate for name that expires at notAfter. No authority signs
// it with the certificate's own key.
func (a *authority) issue(t *testing.T, name string, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if a != nil {
		parent, signer = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// record is one record of TLS on its way through the parent.
type record struct {
	fromServer bool
	index      int    // of all records in this direction, from 0
	data       int    // of those with application data, from 1; 0 for others
	bytes      []byte // with the header of 5 bytes
}

// A lie says what to forward instead of a record, and whether to cut both
// connections after that.
type lie func(r record) (forward []byte, cut bool)

func honest(r record) ([]byte, bool) { return r.bytes, false }

// lyingParent forwards connections from l to server and lies to each.
func lyingParent(t *testing.T, l net.Listener, server string, version uint16, newLie func() lie) {
	serveOn(t, l, func(enclave conntest.Duplex) {
		conn, err := net.Dial("tcp", server)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close() }()
		far := conn.(conntest.Duplex)
		var mu sync.Mutex // a lie knows both directions
		tell, requested := newLie(), false
		forward := func(from, to conntest.Duplex, fromServer bool) {
			defer func() { _ = to.CloseWrite() }()
			appData, data := 0, 0
			for index := 0; ; index++ {
				header := make([]byte, 5)
				if _, err := io.ReadFull(from, header); err != nil {
					return
				}
				whole := append(header, make([]byte, binary.BigEndian.Uint16(header[3:]))...)
				if _, err := io.ReadFull(from, whole[5:]); err != nil {
					return
				}
				mu.Lock()
				r := record{fromServer: fromServer, index: index, bytes: whole}
				if whole[0] == 23 {
					appData++
					// TLS 1.3 disguises most of the handshake as application data: the
					// client's Finished, and all from the server before the request.
					if !fromServer && (version == tls.VersionTLS12 || appData > 1) || fromServer && requested {
						data++
						r.data, requested = data, true
					}
				}
				out, cut := tell(r)
				mu.Unlock()
				if _, err := to.Write(out); err != nil {
					return
				}
				if cut {
					// An orderly end, on the transport: no reset gives it away.
					_, _ = enclave.CloseWrite(), far.CloseWrite()
					return
				}
			}
		}
		var back sync.WaitGroup
		back.Go(func() { forward(far, enclave, true) })
		forward(enclave, far, false)
		back.Wait()
		_, _ = io.Copy(io.Discard, enclave)
	})
}

// The server answers one request in three records.
const (
	lineOfRequest = "request\n"
	wholeAnswer   = "answer 1, answer 2, answer 3"
)

// askedServer counts what the lies make it do.
type askedServer struct {
	address string
	served  atomic.Int64
	errs    chan error // how each connection ended, as the server sees it
}

func startAskedServer(t *testing.T, config *tls.Config) *askedServer {
	config = config.Clone()
	config.DynamicRecordSizingDisabled = true
	config.SessionTicketsDisabled = true // whose records would look like answers
	s := &askedServer{errs: make(chan error, 100)}
	s.address = origin(t, func(conn *net.TCPConn) {
		server := tls.Server(conn, config)
		s.errs <- s.serve(server)
		_ = server.Close()
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // or closing would reset what is on its way
	})
	return s
}

func (s *askedServer) serve(conn *tls.Conn) error {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line != lineOfRequest {
		return errors.New("the request is not what was sent")
	}
	s.served.Add(1)
	for _, part := range strings.SplitAfter(wholeAnswer, ", ") {
		if _, err := io.WriteString(conn, part); err != nil {
			return err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// askServer is the program in the enclave.
func askServer(ctx context.Context, d *Dialer, config *tls.Config) (answer string, err error) {
	conn, err := d.DialContext(ctx, "tcp", "kms.example:443")
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	// What http.Transport does for the context of a request.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() {
		if ctx.Err() != nil {
			err = ctx.Err() // and not the deadline that it led to
		}
	}()
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		return "", err
	}
	if _, err := io.WriteString(client, lineOfRequest); err != nil {
		return "", err
	}
	b, err := io.ReadAll(client)
	return string(b), err
}

// What an error has to be.
func says(texts ...string) func(error) bool {
	return func(err error) bool {
		for _, text := range texts {
			if err != nil && strings.Contains(err.Error(), text) {
				return true
			}
		}
		return false
	}
}

func is(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }

func as[E error](err error) bool { return errors.As(err, new(E)) }

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[(at+len(b))%len(b)] ^= 1
	return b
}

// onAnswer lies about one record of the answer, or onRequest of the request.
func onAnswer(n int, l lie) func() lie {
	return func() lie {
		return func(r record) ([]byte, bool) {
			if r.fromServer && r.data == n {
				return l(r)
			}
			return honest(r)
		}
	}
}

func onRequest(l lie) func() lie {
	return func() lie {
		return func(r record) ([]byte, bool) {
			if !r.fromServer && r.data == 1 {
				return l(r)
			}
			return honest(r)
		}
	}
}

func onHandshake(fromServer bool, index int, l lie) func() lie {
	return func() lie {
		return func(r record) ([]byte, bool) {
			if r.fromServer == fromServer && r.index == index {
				return l(r)
			}
			return honest(r)
		}
	}
}

const firstOfRandom = 5 + 4 + 2 // after the headers of record and message, and the version

// withoutVersions hides from the server that the client speaks TLS 1.3: the extension
// supported_versions gets a number that nobody knows.
func withoutVersions(hello []byte) []byte {
	const supportedVersions = "\x00\x2b\x00\x05\x04\x03\x04\x03\x03"
	return bytes.Replace(hello, []byte(supportedVersions), []byte("\xfa\xfa"+supportedVersions[2:]), 1)
}

var (
	badMAC    = says("tls: bad record MAC")
	noRecord  = says("tls: bad record MAC", "tls: unexpected message")
	anyFromUs = says("tls: ", "unexpected EOF")
)

func TestLyingParent(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	certificate := ca.issue(t, "kms.example", time.Now().Add(time.Hour))
	for _, test := range []struct {
		name      string
		lie       func() lie
		only      uint16           // version of TLS, or 0 for all
		want      func(error) bool // nil: the enclave has its answer and no error
		server    func(error) bool // the same of the server, where it matters
		served    int64            // how often the server must have been asked
		unnoticed string           // where nothing can be noticed, why that is
	}{
		{name: "no lie", lie: func() lie { return honest }, served: 1},

		// Wrong bytes.
		{name: "a bit of the answer", lie: onAnswer(2, func(r record) ([]byte, bool) { return flip(r.bytes, -1), false }), want: badMAC, served: 1},
		{name: "the first bit of the answer", lie: onAnswer(1, func(r record) ([]byte, bool) { return flip(r.bytes, 5), false }), want: badMAC, served: 1},
		{name: "a bit of the request", lie: onRequest(func(r record) ([]byte, bool) { return flip(r.bytes, 7), false }), want: badMAC, server: badMAC},
		{name: "the type of a record", lie: onAnswer(2, func(r record) ([]byte, bool) { r.bytes[0] = 22; return r.bytes, false }), want: noRecord, served: 1},
		{name: "the version of a record", lie: onAnswer(2, func(r record) ([]byte, bool) { r.bytes[2] ^= 2; return r.bytes, false }), want: says("tls: received record with version"), served: 1},
		{name: "a shorter record", lie: onAnswer(2, func(r record) ([]byte, bool) { r.bytes[4]--; return r.bytes[:len(r.bytes)-1], false }), want: badMAC, served: 1},
		{name: "an impossible length", lie: onAnswer(2, func(r record) ([]byte, bool) { r.bytes[3] = 0xff; return r.bytes, false }), want: says("tls: oversized record"), served: 1},
		{name: "a forged answer", lie: onAnswer(1, func(record) ([]byte, bool) { return []byte("\x17\x03\x03\x00\x08answer 1"), false }), want: badMAC, served: 1},
		{name: "the server's random", lie: onHandshake(true, 0, func(r record) ([]byte, bool) { return flip(r.bytes, firstOfRandom), false }), want: anyFromUs},
		{name: "the client's random", lie: onHandshake(false, 0, func(r record) ([]byte, bool) { return flip(r.bytes, firstOfRandom), false }), want: anyFromUs},
		{name: "the server's certificate", only: tls.VersionTLS12, lie: onHandshake(true, 1, func(r record) ([]byte, bool) { return flip(r.bytes, -1), false }), want: anyFromUs},
		{name: "the server's certificate", only: tls.VersionTLS13, lie: onHandshake(true, 3, func(r record) ([]byte, bool) { return flip(r.bytes, -1), false }), want: badMAC},

		// Records more than once, in another order, left out, put in.
		{name: "an answer twice", lie: onAnswer(1, func(r record) ([]byte, bool) { return append(r.bytes, r.bytes...), false }), want: badMAC, served: 1},
		{name: "a request twice", lie: onRequest(func(r record) ([]byte, bool) { return append(r.bytes, r.bytes...), false }), server: badMAC, served: 1},
		{name: "another order", lie: func() lie {
			var held []byte
			return func(r record) ([]byte, bool) {
				switch {
				case r.fromServer && r.data == 1:
					held = r.bytes
					return nil, false
				case r.fromServer && r.data == 2:
					return append(r.bytes, held...), false
				}
				return honest(r)
			}
		}, want: badMAC, served: 1},
		{name: "an answer missing", lie: onAnswer(2, func(record) ([]byte, bool) { return nil, false }), want: badMAC, served: 1},
		{name: "a forged end", lie: onAnswer(2, func(r record) ([]byte, bool) {
			return append([]byte("\x15\x03\x03\x00\x02\x01\x00"), r.bytes...), false
		}), want: noRecord, served: 1},
		{name: "our own words back", lie: func() lie {
			var request []byte
			return func(r record) ([]byte, bool) {
				if r.data == 1 && !r.fromServer {
					request = r.bytes
				} else if r.data == 1 {
					return request, false
				}
				return honest(r)
			}
		}, want: badMAC, served: 1},

		// Cut streams, each with an orderly end of the transport.
		{name: "cut in a record", lie: onAnswer(2, func(r record) ([]byte, bool) { return r.bytes[:len(r.bytes)-1], true }), want: is(io.ErrUnexpectedEOF), served: 1},
		{name: "cut in the header of a record", lie: onAnswer(2, func(r record) ([]byte, bool) { return r.bytes[:4], true }), want: is(io.ErrUnexpectedEOF), served: 1},
		{name: "cut after the ClientHello", lie: onHandshake(false, 0, func(r record) ([]byte, bool) { return r.bytes, true }), want: is(io.EOF)},
		{name: "cut in the ServerHello", lie: onHandshake(true, 0, func(r record) ([]byte, bool) { return r.bytes[:20], true }), want: is(io.ErrUnexpectedEOF)},
		{name: "cut between records", lie: onAnswer(2, func(r record) ([]byte, bool) { return r.bytes, true }), served: 1,
			unnoticed: "crypto/tls takes the end of the stream between two records for the end that close_notify announces"},

		// An older version of the protocol, and none.
		{name: "only TLS 1.2", only: tls.VersionTLS13, lie: onHandshake(false, 0, func(r record) ([]byte, bool) { return withoutVersions(r.bytes), false }), want: says("downgrade attempt detected")},
		{name: "TLS 1.1", lie: onHandshake(true, 0, func(r record) ([]byte, bool) {
			return []byte("\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02" + strings.Repeat("r", 32) + "\x00\xc0\x13\x00"), false
		}), want: says("unsupported protocol version")},
		{name: "plaintext for TLS", lie: onHandshake(true, 0, func(record) ([]byte, bool) { return []byte("HTTP/1.1 200 OK\r\n\r\n" + wholeAnswer), false }), want: as[tls.RecordHeaderError]},
		{name: "plaintext in TLS", lie: onAnswer(1, func(record) ([]byte, bool) { return []byte("HTTP/1.1 200 OK\r\n\r\n" + wholeAnswer), false }), want: as[tls.RecordHeaderError], served: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
					if test.only != 0 && test.only != version {
						continue
					}
					t.Run(name, func(t *testing.T) {
						server := startAskedServer(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version})
						l, e := tr.listen(t)
						lyingParent(t, l, server.address, version, test.lie)
						answer, err := askServer(t.Context(), &Dialer{Endpoint: e}, &tls.Config{ServerName: "kms.example", RootCAs: ca.pool()})
						switch {
						case test.want != nil:
							if !test.want(err) {
								t.Errorf("the enclave has %T %v", err, err)
							}
						case err != nil:
							t.Errorf("the enclave has an error: %v", err)
						case test.unnoticed == "" && answer != wholeAnswer:
							t.Errorf("the enclave has %q", answer)
						}
						if !strings.HasPrefix(wholeAnswer, answer) || test.want != nil && answer == wholeAnswer {
							t.Errorf("the enclave believes %q", answer)
						}
						if err := <-server.errs; test.server != nil && !test.server(err) {
							t.Errorf("the server has %v", err)
						}
						if n := server.served.Load(); n != test.served {
							t.Errorf("the server has done the work %d times, want %d", n, test.served)
						}
					})
				}
			})
		})
	}
}

// A parent that drips, or says nothing more, holds a program no longer than the
// program's own context.
func TestLyingParentStalls(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, "kms.example", time.Now().Add(time.Hour))
	for _, test := range []struct {
		name  string
		stall func(r record) (forward []byte, here bool)
	}{
		{"before the ServerHello", func(r record) ([]byte, bool) { return nil, r.fromServer && r.index == 0 }},
		{"in the ServerHello", func(r record) ([]byte, bool) { return r.bytes[:1], r.fromServer && r.index == 0 }},
		{"before the answer", func(r record) ([]byte, bool) { return nil, r.fromServer && r.data == 1 }},
		{"in the answer", func(r record) ([]byte, bool) { return r.bytes[:len(r.bytes)-1], r.fromServer && r.data == 2 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				server := startAskedServer(t, &tls.Config{Certificates: []tls.Certificate{certificate}})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l, e := tr.listen(t)
				lyingParent(t, l, server.address, tls.VersionTLS13, func() lie {
					stalled := false
					return func(r record) ([]byte, bool) {
						if stalled {
							return nil, false
						}
						if forward, here := test.stall(r); here {
							stalled = true
							cancel() // what a deadline would do in time
							return forward, false
						}
						return honest(r)
					}
				})
				answer, err := askServer(ctx, &Dialer{Endpoint: e}, &tls.Config{ServerName: "kms.example", RootCAs: ca.pool()})
				if !errors.Is(err, context.Canceled) || answer == wholeAnswer {
					t.Errorf("%q, %v; want the end of the context", answer, err)
				}
			})
		})
	}
}

// The parent connects to whom it likes, whatever it was asked for, and says 200.
func TestLyingParentLeadsElsewhere(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	var self *authority
	for _, test := range []struct {
		name        string
		certificate tls.Certificate
		want        func(error) bool
	}{
		{"the right one", ca.issue(t, "kms.example", hour), nil},
		{"another host, with a valid certificate", ca.issue(t, "evil.example", hour), as[x509.HostnameError]},
		{"a host below it", ca.issue(t, "evil.kms.example", hour), as[x509.HostnameError]},
		{"the same name by another authority", other.issue(t, "kms.example", hour), as[x509.UnknownAuthorityError]},
		{"the same name, self-signed", self.issue(t, "kms.example", hour), as[x509.UnknownAuthorityError]},
		{"the right one of yesterday", ca.issue(t, "kms.example", time.Now().Add(-time.Hour)), func(err error) bool {
			var invalid x509.CertificateInvalidError
			return errors.As(err, &invalid) && invalid.Reason == x509.Expired
		}},
		{"the right certificate without its key", tls.Certificate{
			Certificate: ca.issue(t, "kms.example", hour).Certificate,
			PrivateKey:  ca.issue(t, "kms.example", hour).PrivateKey,
		}, says("invalid signature by the server certificate")},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				for _, connect := range []bool{false, true} {
					server := startAskedServer(t, &tls.Config{Certificates: []tls.Certificate{test.certificate}})
					l, e := tr.listen(t)
					if connect {
						l = wrapListener{l, func(conn net.Conn) net.Conn {
							_, _ = http.ReadRequest(bufio.NewReader(iotest.OneByteReader(conn)))
							_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
							return conn
						}}
					}
					lyingParent(t, l, server.address, tls.VersionTLS13, func() lie { return honest })
					answer, err := askServer(t.Context(), &Dialer{Endpoint: e, Connect: connect}, &tls.Config{ServerName: "kms.example", RootCAs: ca.pool()})
					if test.want == nil {
						if answer != wholeAnswer || err != nil {
							t.Errorf("%q, %v", answer, err)
						}
						continue
					}
					if !test.want(err) || answer != "" {
						t.Errorf("Connect %t: %q, %T %v", connect, answer, err, err)
					}
					if n := server.served.Load(); n != 0 {
						t.Errorf("the server was asked %d times", n)
					}
				}
			})
		})
	}
}

// A parent that has recorded a whole connection plays it again, to the enclave or to
// the server.
func TestLyingParentReplaysConnections(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, "kms.example", time.Now().Add(time.Hour))
	eachTransport(t, func(t *testing.T, tr transport) {
		for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name, func(t *testing.T) {
				server := startAskedServer(t, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version})
				var mu sync.Mutex
				recorded := make(map[bool][]byte) // by fromServer
				l, e := tr.listen(t)
				lyingParent(t, l, server.address, version, func() lie {
					return func(r record) ([]byte, bool) {
						mu.Lock()
						defer mu.Unlock()
						recorded[r.fromServer] = append(recorded[r.fromServer], r.bytes...)
						return honest(r)
					}
				})
				config := &tls.Config{ServerName: "kms.example", RootCAs: ca.pool()}
				if answer, err := askServer(t.Context(), &Dialer{Endpoint: e}, config); answer != wholeAnswer || err != nil {
					t.Fatalf("%q, %v", answer, err)
				}
				if err := <-server.errs; err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				defer mu.Unlock()

				l, e = tr.listen(t)
				serveOn(t, l, func(conn conntest.Duplex) {
					_, _ = conn.Write(recorded[true])
					_ = conn.CloseWrite()
					_, _ = io.Copy(io.Discard, conn)
				})
				answer, err := askServer(t.Context(), &Dialer{Endpoint: e}, config)
				if answer != "" || !says("tls: ")(err) {
					t.Errorf("the enclave has %q, %v", answer, err)
				}

				conn, err := net.Dial("tcp", server.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conntest.Write(t, conn, string(recorded[false]))
				_ = conn.(conntest.Duplex).CloseWrite()
				conntest.WantCut(t, conn)
				if err := <-server.errs; !says("tls: ")(err) {
					t.Errorf("the server has %v", err)
				}
				if n := server.served.Load(); n != 1 {
					t.Errorf("the server has done the work %d times, want once", n)
				}
			})
		}
	})
}

// HTTP notices where crypto/tls does not, as long as an answer says where it ends:
// a cut between two records.
func TestLyingParentCutsHTTP(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, "kms.example", time.Now().Add(time.Hour))
	for _, test := range []struct {
		name, head, body string
		noticed          bool
	}{
		{"Content-Length", "Content-Length: 20\r\n", "0123456789", true},
		{"chunked", "Transfer-Encoding: chunked\r\n", "a\r\n0123456789\r\n", true},
		// The last of these is why a protocol must say where its messages end.
		{"until the connection ends", "Connection: close\r\n", "0123456789", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				config := &tls.Config{Certificates: []tls.Certificate{certificate}, DynamicRecordSizingDisabled: true, SessionTicketsDisabled: true}
				server := origin(t, func(conn *net.TCPConn) {
					server := tls.Server(conn, config)
					if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
						_, _ = io.WriteString(server, "HTTP/1.1 200 OK\r\n"+test.head+"\r\n"+test.body)
						_, _ = io.WriteString(server, "what the parent keeps")
					}
					_, _ = io.Copy(io.Discard, server)
				})
				l, e := tr.listen(t)
				lyingParent(t, l, server, tls.VersionTLS13, onAnswer(1, func(r record) ([]byte, bool) { return r.bytes, true }))
				transport := &http.Transport{
					DialContext:     (&Dialer{Endpoint: e}).DialContext,
					TLSClientConfig: &tls.Config{RootCAs: ca.pool()},
				}
				defer transport.CloseIdleConnections()
				resp, err := (&http.Client{Transport: transport}).Get("https://kms.example/")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if string(body) != "0123456789" || errors.Is(err, io.ErrUnexpectedEOF) != test.noticed {
					t.Errorf("%q, %v", body, err)
				}
			})
		})
	}
}

// On the way in, the parent may pretend to be a client. A server in the enclave that
// asks for certificates is not misled, and what a PROXY header claims is no certificate.
func TestLyingParentPretendsToBeAClient(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	client := ca.issue(t, "client.example", hour)
	for _, test := range []struct {
		name         string
		certificates []tls.Certificate
		want         func(error) bool // of the server
	}{
		{"the client", []tls.Certificate{client}, nil},
		{"without a certificate", nil, says("client didn't provide a certificate")},
		{"another authority's", []tls.Certificate{other.issue(t, "client.example", hour)}, as[x509.UnknownAuthorityError]},
		{"the client's, without the key", []tls.Certificate{{
			Certificate: client.Certificate, PrivateKey: other.issue(t, "client.example", hour).PrivateKey,
		}}, says("invalid signature by the client certificate")},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				l, e := tr.listen(t)
				errs := make(chan error, 1)
				config := &tls.Config{
					Certificates: []tls.Certificate{ca.issue(t, "enclave.example", hour)},
					ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
				}
				serveOn(t, NewProxyV2Listener(l), func(conn conntest.Duplex) {
					server := tls.Server(conn, config)
					errs <- server.Handshake()
					_ = server.Close()
					_, _ = io.Copy(io.Discard, conn)
				})
				conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conntest.Write(t, conn, proxyBytes(0x21, 0x11, v4Addresses))
				_ = tls.Client(conn, &tls.Config{ServerName: "enclave.example", RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					if len(test.certificates) == 0 {
						return new(tls.Certificate), nil
					}
					return &test.certificates[0], nil // asked for or not
				}}).Handshake()
				if err := <-errs; test.want == nil && err != nil || test.want != nil && !test.want(err) {
					t.Errorf("the server has %T %v", err, err)
				}
			})
		})
	}
}
