package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// parentOn serves one connection at a time on an endpoint.
func parentOn(t *testing.T, e vsockproxy.Endpoint, serve func(net.Conn)) net.Addr {
	t.Helper()
	l, err := vsockproxy.Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr()
}

func TestHeartbeat(t *testing.T) {
	for name, listen := range map[string]func(t *testing.T, serve func(net.Conn)) vsockproxy.Endpoint{
		"unix": func(t *testing.T, serve func(net.Conn)) vsockproxy.Endpoint {
			e := vsockproxy.Unix(filepath.Join(t.TempDir(), "s"))
			parentOn(t, e, serve)
			return e
		},
		"tcp": func(t *testing.T, serve func(net.Conn)) vsockproxy.Endpoint {
			return vsockproxy.TCP(parentOn(t, vsockproxy.TCP("127.0.0.1:0"), serve).String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				name, answer string
				fails        bool
				is           error
			}{
				{"echo", "\xb7", false, nil},
				{"echo and more", "\xb7\xb7", false, nil},
				{"another byte", "\xb8", true, nil},
				{"nothing", "", true, io.EOF},
			} {
				t.Run(test.name, func(t *testing.T) {
					got := make(chan string, 1)
					e := listen(t, func(conn net.Conn) {
						var b [1]byte
						_, _ = io.ReadFull(conn, b[:])
						_, _ = io.WriteString(conn, test.answer)
						if half, ok := conn.(interface{ CloseWrite() error }); ok {
							_ = half.CloseWrite()
						}
						rest, _ := io.ReadAll(conn)
						got <- string(b[:]) + string(rest)
					})
					err := Heartbeat(t.Context(), e)
					if sent := <-got; sent != "\xb7" {
						t.Errorf("sent %q", sent)
					}
					if !test.fails {
						if err != nil {
							t.Error(err)
						}
						return
					}
					failed := wantStep(t, err, ReasonHeartbeat)
					if failed.Op != "Heartbeat" || failed.Field != e.String() {
						t.Errorf("%v is not about %v", err, e)
					}
					if test.is == nil && !strings.Contains(failed.Detail, "0xb8") {
						t.Errorf("%v does not say what came", err)
					}
					if !errors.Is(err, test.is) && test.is != nil {
						t.Errorf("%v is not %v", err, test.is)
					}
				})
			}
			t.Run("silence", func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				e := listen(t, func(conn net.Conn) {
					var b [1]byte
					_, _ = io.ReadFull(conn, b[:])
					cancel()
					_, _ = io.Copy(io.Discard, conn)
				})
				err := Heartbeat(ctx, e)
				wantStep(t, err, ReasonHeartbeat)
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%v is not %v", err, context.Canceled)
				}
			})
		})
	}
	t.Run("nobody", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		err = Heartbeat(t.Context(), vsockproxy.TCP(l.Addr().String()))
		wantStep(t, err, ReasonHeartbeat)
		var dial *vsockproxy.Error
		if !errors.As(err, &dial) || dial.Op != "DialContext" || dial.Reason != vsockproxy.ReasonRefused {
			t.Errorf("%v", err)
		}
	})
	t.Run("no parent", func(t *testing.T) {
		var dial *vsockproxy.Error
		if err := Heartbeat(t.Context(), vsockproxy.Endpoint{}); !errors.As(err, &dial) || dial.Endpoint != vsockproxy.Vsock(vsockproxy.ParentCID, HeartbeatPort) {
			t.Errorf("%v is not about vsock://3:9000", err)
		}
	})
}
