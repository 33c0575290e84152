//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/keyvouch/keyvouch/examples/enclave/service"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// application runs the service of examples/enclave here, and has the host be its
// client, who comes in over the guest's vsock.
func (g *guest) application() {
	g.check("application/served", func(ctx context.Context) (string, error) {
		if g.world == nil {
			return "", skipped("the host has no vsock here")
		}
		session, err := g.signedSession()
		if err != nil {
			return "", err
		}
		defer session.Close()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(g.world.RootCAs)
		log := &watchedLog{serving: make(chan struct{})}
		s := service.Service{
			Session: session, RootCAs: roots, Credentials: g.config().Credentials,
			Logger: slog.New(slog.NewTextHandler(log, nil)),
			Config: service.Config{
				Region: g.world.Region, KeyARN: g.world.KeyARN, Sealed: g.world.Sealed,
				KMS: parent.String(), Metadata: parent.String(), // not asked: the credentials are given
				Listen: vsockproxy.Vsock(vsockproxy.AnyCID, e2e.ServicePort).String(),
			},
		}
		running, stop := context.WithCancel(ctx)
		defer stop()
		ended := make(chan error, 1)
		go func() { ended <- s.Run(running) }()
		select {
		case err := <-ended:
			return "", fmt.Errorf("%w\n%s", err, log.text())
		case <-log.serving:
		}
		visits, err := g.visit()
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			return "", fmt.Errorf("%w\n%s", err, log.text())
		}
		for _, c := range visits {
			g.line(e2e.Line{Check: &c})
		}
		return fmt.Sprintf("a key released, %d checks of its clients, an orderly end", len(visits)), nil
	})
}

// visit asks the host to be the service's client, and to say how it went.
func (g *guest) visit() ([]e2e.Check, error) {
	client := e2e.Client()
	client.Timeout = checkLimit
	res, err := client.Post(e2e.HostURL+"/visit", "application/json", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var checks []e2e.Check
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&checks); err != nil {
		return nil, err
	}
	if len(checks) == 0 {
		return nil, errors.New("the host has checked nothing")
	}
	return checks, nil
}

// watchedLog keeps what the service logs, and tells when it serves.
type watchedLog struct {
	mu      sync.Mutex
	b       bytes.Buffer
	once    sync.Once
	serving chan struct{}
}

func (w *watchedLog) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if bytes.Contains(p, []byte("msg=serving")) {
		w.once.Do(func() { close(w.serving) })
	}
	return w.b.Write(p)
}

func (w *watchedLog) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
