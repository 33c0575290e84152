package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/examples/enclave/service"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// visit plays the clients of the application in the guest. They come in by the hybrid
// vsock that vhost-device-vsock offers, through the library's own dialer for it.
func (w *world) visit(res http.ResponseWriter, req *http.Request) {
	ctx := req.Context()
	dial := (&vsockproxy.Dialer{Endpoint: vsockproxy.HybridVsock(w.vsock, e2e.ServicePort)}).DialContext
	policy := func(change func(*attestation.Policy)) *attestation.Verifier {
		p := attestation.Policy{
			// A PC's PCRs 0 to 2 are zero, as in debug mode.
			Measurements:     []attestation.Measurement{{Name: "the image", PCRs: maps.Clone(w.measured), UnsafePartial: w.unmeasured}},
			UnsafeAllowDebug: w.unmeasured,
			Roots:            []*x509.Certificate{w.pki.Root()},
		}
		if change != nil {
			change(&p)
		}
		v, err := attestation.NewVerifier(p)
		if err != nil {
			panic(err) // of this test's own making
		}
		return v
	}

	var checks []e2e.Check
	check := func(name string, f func() (string, error)) {
		started := time.Now()
		detail, err := f()
		c := e2e.Check{Name: "application/" + name, Result: e2e.Passed, Detail: detail}
		if err != nil {
			c.Result, c.Detail = e2e.Failed, err.Error()
		}
		c.Millis = time.Since(started).Milliseconds()
		checks = append(checks, c)
	}

	check("attested-client", func() (string, error) {
		client, document, err := service.Connect(ctx, dial, policy(nil))
		if err != nil {
			return "", err
		}
		defer client.CloseIdleConnections()
		answer, status, err := fetch(ctx, client, http.MethodPost, "/mac", "a message")
		if err != nil {
			return "", err
		}
		h := hmac.New(sha256.New, w.secret)
		h.Write([]byte("a message"))
		if want := hex.EncodeToString(h.Sum(nil)); status != http.StatusOK || strings.TrimSpace(answer) != want {
			return "", fmt.Errorf("%d %q, want %s", status, answer, want)
		}
		if len(document.PublicKey) != 0 {
			return "", errors.New("the document vouches for a public key, which KMS would release secrets to")
		}
		return "a message authenticated by the key that KMS released", nil
	})
	check("another-image", func() (string, error) {
		return refusedBy(ctx, dial, policy(func(p *attestation.Policy) {
			for index, value := range w.measured {
				value[0] ^= 1
				p.Measurements[0].PCRs[index] = value
			}
		}), attestation.ReasonMeasurement)
	})
	check("aws-root", func() (string, error) {
		return refusedBy(ctx, dial, policy(func(p *attestation.Policy) { p.Roots = nil }), attestation.ReasonUntrustedRoot)
	})
	check("no-oracle", func() (string, error) {
		bare := &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		defer bare.CloseIdleConnections()
		nonce := strings.Repeat("ab", 32)
		queries := []string{
			"", "?nonce=", "?nonce=" + nonce[:30], "?nonce=" + strings.Repeat("ab", 65), "?nonce=zz",
			"?nonce=" + nonce + "&public_key=" + nonce, "?nonce=" + nonce + "&user_data=" + nonce, "?nonce=" + nonce + "&nonce=" + nonce,
		}
		for _, query := range queries {
			answer, status, err := fetch(ctx, bare, http.MethodGet, "/attestation"+query, "")
			if err != nil || status != http.StatusBadRequest {
				return "", fmt.Errorf("%q: %d %q, %w", query, status, answer, err)
			}
		}
		if _, status, err := fetch(ctx, bare, http.MethodPost, "/attestation?nonce="+nonce, nonce); err != nil || status != http.StatusMethodNotAllowed {
			return "", fmt.Errorf("POST: %d, %w", status, err)
		}
		return fmt.Sprintf("%d requests for more than a nonce are refused", len(queries)+1), nil
	})
	check("flood", func() (string, error) {
		bare := &http.Client{Transport: &http.Transport{DialContext: dial, MaxConnsPerHost: 16, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		defer bare.CloseIdleConnections()
		var mu sync.Mutex
		statuses := map[int]int{}
		var errs []error
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for range 8 {
					_, status, err := fetch(ctx, bare, http.MethodGet, "/attestation?nonce="+strings.Repeat("cd", 16), "")
					mu.Lock()
					statuses[status]++
					if err != nil {
						errs = append(errs, err)
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(errs) > 0 || statuses[http.StatusOK] == 0 || statuses[http.StatusOK]+statuses[http.StatusTooManyRequests] != 128 {
			return "", fmt.Errorf("%v, %w", statuses, errors.Join(errs...))
		}
		return fmt.Sprintf("of 128 requests at once %d were answered and %d told to wait", statuses[http.StatusOK], statuses[http.StatusTooManyRequests]), nil
	})
	_ = json.NewEncoder(res).Encode(checks)
}

// refusedBy checks that a client's verifier refuses the enclave, for the right reason.
func refusedBy(ctx context.Context, dial dialFunc, verifier *attestation.Verifier, want attestation.Reason) (string, error) {
	client, document, err := service.Connect(ctx, dial, verifier)
	var e *attestation.Error
	if !errors.As(err, &e) || e.Reason != want || client != nil || document != nil {
		return "", fmt.Errorf("%v, want reason %s", err, want)
	}
	return e.Error(), nil
}

func fetch(ctx context.Context, client *http.Client, method, path, body string) (string, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, service.URL+path, strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return string(answer), res.StatusCode, err
}
