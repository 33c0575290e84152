//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// host is a client of the host's HTTP server for the test, over vsock.
func host() *http.Client {
	dialer := vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(e2e.HostCID, e2e.WorldPort)}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: 30 * time.Second}
}

// hostURL has the port, since the library's dialer takes one for plain HTTP to be a
// mistake. What goes there is no secret.
var hostURL = fmt.Sprintf("http://host:%d", e2e.WorldPort)

func (g *guest) askWorld() {
	if parameter("e2e.host") != "vsock" {
		return
	}
	g.check("vsock/host", func(ctx context.Context) (string, error) {
		res, err := host().Get(hostURL + "/world")
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		var w e2e.World
		if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&w); err != nil {
			return "", err
		}
		// TLS and signatures go by the system's clock, which starts in 1970 where
		// there is no hardware clock. In an enclave it must not be the parent's.
		g.world = &w
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

// signingDevice is the real device, but that the host signs its documents in
// AWS's place: with the fields that the device wrote, under the test's own root.
// There is nothing of the kind outside this test.
type signingDevice struct {
	nsm.Device
	host *http.Client
}

func (g *guest) signedSession() (*nsm.Session, error) {
	device, err := nsm.OpenDevice()
	if err != nil {
		return nil, err
	}
	return nsm.NewSession(signingDevice{device, host()}), nil
}

func (d signingDevice) Send(request []byte) ([]byte, error) {
	response, err := d.Device.Send(request)
	if err != nil {
		return nil, err
	}
	var decoded any
	if err := cbor.Unmarshal(response, &decoded); err != nil {
		return nil, err
	}
	unsigned := documentIn(decoded)
	if unsigned == nil {
		return response, nil
	}
	res, err := d.host.Post(hostURL+"/sign", "application/octet-stream", bytes.NewReader(unsigned))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	signed, err := io.ReadAll(io.LimitReader(res.Body, nsm.MaxResponseSize))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host signs nothing: %s: %s", res.Status, signed)
	}
	return call("Attestation", text("document"), blob(signed)), nil
}
