//go:build linux && amd64

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
)

func (g *guest) askWorld() {
	if parameter("e2e.host") != "vsock" {
		return
	}
	g.check("vsock/host", func(ctx context.Context) (string, error) {
		w, err := e2e.AskWorld(ctx)
		if err != nil {
			return "", err
		}
		// TLS and signatures go by the system's clock, which starts in 1970 where
		// there is no hardware clock. In an enclave it must not be the parent's.
		g.world = w
		before := time.Now()
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: w.Time.Unix(), Nsec: int64(w.Time.Nanosecond())}); err != nil {
			return "", err
		}
		return fmt.Sprintf("HTTP to CID %d; for this test alone the clock is now the host's, which was %v ahead", e2e.HostCID, w.Time.Sub(before).Round(time.Second)), nil
	})
}

func (g *guest) attestationRoot() ([]*x509.Certificate, error) {
	root, err := x509.ParseCertificate(g.world.AttestationRoot)
	return []*x509.Certificate{root}, err
}

func (g *guest) signedSession() (*nsm.Session, error) {
	device, err := e2e.OpenSigningDevice()
	if err != nil {
		return nil, err
	}
	return nsm.NewSession(device), nil
}
