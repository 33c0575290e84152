// Client verifies the enclave of this example and has it authenticate a message with the
// key that KMS released to it. It refuses any other image than the one measured.
//
//	client -measurement build.json -at vsock://16:5000 "a message"
//
// On the parent instance -at names the enclave's context ID. Elsewhere it names the TCP
// port that the parent forwards: tcp://parent:5000.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/examples/enclave/service"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

func main() {
	measurement := flag.String("measurement", "", "`file` with the PCRs of the image, as the program image or nitro-cli printed it")
	at := flag.String("at", "", "`endpoint` of the service, such as vsock://16:5000")
	flag.Parse()
	if *measurement == "" || *at == "" || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "Usage: client -measurement FILE -at ENDPOINT MESSAGE")
		os.Exit(2)
	}
	if err := run(*measurement, *at, flag.Arg(0), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client:", explain(err))
		os.Exit(1)
	}
}

// explain adds a hint to the error if an enclave cannot be reached by its context ID. The
// error itself asks about a proxy, since enclaves dial one; here there is none.
func explain(err error) error {
	var dial *vsockproxy.Error
	if !errors.As(err, &dial) {
		return err
	}
	switch dial.Reason {
	case vsockproxy.ReasonTimeout, vsockproxy.ReasonRefused, vsockproxy.ReasonUnreachable:
	default:
		return err
	}
	var cid, port uint32
	// Context IDs up to ParentCID are the hypervisor, this machine, its host and the
	// parent of an enclave.
	if _, bad := fmt.Sscanf(dial.Endpoint.String(), "vsock://%d:%d", &cid, &port); bad != nil || cid <= vsockproxy.ParentCID {
		return err
	}
	return fmt.Errorf("%w; there is no proxy on this way: does an enclave with context ID %d run (nitro-cli describe-enclaves), and does it listen on port %d?", err, cid, port)
}

func run(measurement, at, message string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := os.ReadFile(measurement)
	if err != nil {
		return err
	}
	expected, err := attestation.ParseMeasurement(text)
	if err != nil {
		return err
	}
	verifier, err := attestation.NewVerifier(attestation.Policy{Measurements: []attestation.Measurement{expected}})
	if err != nil {
		return err
	}
	endpoint, err := vsockproxy.ParseEndpoint(at)
	if err != nil {
		return err
	}
	client, document, err := service.Connect(ctx, (&vsockproxy.Dialer{Endpoint: endpoint}).DialContext, verifier)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	fmt.Fprintln(stdout, "attested:", document.ModuleID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, service.URL+"/mac", strings.NewReader(message))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	fmt.Fprintf(stdout, "HMAC-SHA256: %s", answer)
	return nil
}
