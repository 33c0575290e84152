package vsockproxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

const (
	secretSent     = "data-key-plaintext-of-the-enclave-0123456789"
	secretReceived = "answer-only-for-the-enclave-9876543210"
)

// The proxy must see TLS records and nothing of what is in them. The same
// exchange without TLS shows that the recording would notice.
func TestProxySeesCiphertextOnly(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != secretSent {
			http.Error(w, "not what was sent", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat(secretReceived, 1000))
	})
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, scheme := range []string{"https", "http"} {
			t.Run(scheme, func(t *testing.T) {
				server := httptest.NewUnstartedServer(handler)
				if scheme == "https" {
					server.StartTLS()
				} else {
					server.Start()
				}
				t.Cleanup(server.Close)

				l, e := tr.listen(t)
				seen := new(recording)
				l = wrapListener{l, func(conn net.Conn) net.Conn {
					return recordedConn{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, seen}
				}}
				r := startOn(t, l, e, &Proxy{Route: To(server.Listener.Addr().String())})

				client := server.Client()
				client.Transport.(*http.Transport).DialContext = r.DialContext
				// Not port 80, which the dialer refuses.
				resp, err := client.Post(scheme+"://example.com:8443/path-of-the-request", "text/plain", strings.NewReader(secretSent))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || string(body) != strings.Repeat(secretReceived, 1000) {
					t.Fatalf("status %d, %d bytes, %v", resp.StatusCode, len(body), err)
				}
				client.CloseIdleConnections()

				// A client of a Unix socket that closes before it has read the
				// server's last word resets its connection.
				line := r.log.next("connection ended")
				if end := line["end"]; end != endClosed && end != endBroken {
					t.Errorf("log line says end=%v, want %s or %s: %v", end, endClosed, endBroken, line)
				}
				fromEnclave, toEnclave := seen.bytes()
				if line["bytes_to_target"] != float64(len(fromEnclave)) || line["bytes_to_enclave"] != float64(len(toEnclave)) {
					t.Errorf("the recording has %d and %d bytes, the log %v", len(fromEnclave), len(toEnclave), line)
				}
				all := append(append(fromEnclave[:len(fromEnclave):len(fromEnclave)], toEnclave...), fmt.Sprint(line)...)
				for _, text := range []string{secretSent, secretReceived, "path-of-the-request", "HTTP/1.1", "POST"} {
					if found := bytes.Contains(all, []byte(text)); found != (scheme == "http") {
						t.Errorf("over %s, the proxy saw %q: %t", scheme, text, found)
					}
				}
				if scheme == "https" {
					wantTLSRecords(t, "from the enclave", fromEnclave)
					wantTLSRecords(t, "to the enclave", toEnclave)
				}
			})
		}
	})
}

// wantTLSRecords checks that stream is TLS records from its first byte to its
// last (RFC 8446, section 5.1), application data among them.
func wantTLSRecords(t *testing.T, name string, stream []byte) {
	t.Helper()
	types := make(map[byte]int)
	for rest := stream; len(rest) > 0; {
		if len(rest) < 5 || rest[0] < 20 || rest[0] > 23 || rest[1] != 3 {
			t.Fatalf("%s: no TLS record at offset %d", name, len(stream)-len(rest))
		}
		n := 5 + int(binary.BigEndian.Uint16(rest[3:5]))
		if n > 5+1<<14+256 || n > len(rest) {
			t.Fatalf("%s: TLS record of %d bytes at offset %d of %d", name, n, len(stream)-len(rest), len(stream))
		}
		types[rest[0]]++
		rest = rest[n:]
	}
	const handshake, applicationData = 22, 23
	if types[handshake] == 0 || types[applicationData] == 0 {
		t.Errorf("%s: record types %v, want handshake and application data", name, types)
	}
}

// recording is every byte that the proxy read from the enclave and wrote to it.
type recording struct {
	mu                     sync.Mutex
	fromEnclave, toEnclave []byte
}

func (r *recording) bytes() (fromEnclave, toEnclave []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fromEnclave, r.toEnclave
}

type recordedConn struct {
	conntest.Wrapped
	to *recording
}

func (c recordedConn) Read(b []byte) (int, error) {
	n, err := c.Wrapped.Read(b)
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.fromEnclave = append(c.to.fromEnclave, b[:n]...)
	return n, err
}

func (c recordedConn) Write(b []byte) (int, error) {
	n, err := c.Wrapped.Write(b)
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.toEnclave = append(c.to.toEnclave, b[:n]...)
	return n, err
}
