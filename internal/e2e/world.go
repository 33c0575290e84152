package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// The vsock ports of the host (context ID 2) that the guest uses.
const (
	HostCID     = 2
	WorldPort   = 9100 // HTTP: what the guest has to know, and signatures in AWS's place
	ProxyPort   = 8000 // the parent's proxy, to KMS's stand-in
	BeatPort    = 9000 // the heartbeat that a parent waits for
	ServicePort = 5000 // of the guest: the enclave application's clients
)

// World is what the guest asks of the host at WorldPort, as JSON of GET /world.
type World struct {
	// Time is the host's, since a guest has no clock that it could trust.
	Time time.Time `json:"time"`
	// Region, KeyARN and the credentials are for KMS's stand-in, and RootCAs is
	// the certificate, PEM, that its TLS leads to.
	Region          string `json:"region"`
	KeyARN          string `json:"key_arn"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
	SessionToken    string `json:"session_token"`
	RootCAs         []byte `json:"root_cas"`
	// Sealed is a secret that KMS encrypted, and SHA256 its digest in
	// hexadecimal.
	Sealed []byte `json:"sealed"`
	SHA256 string `json:"sha256"`
	// OtherKeyARN is a key that KMS releases to another image only, and
	// OtherSealed a secret under it.
	OtherKeyARN string `json:"other_key_arn"`
	OtherSealed []byte `json:"other_sealed"`
	// AttestationRoot is the root, DER, under which POST /sign signs documents.
	AttestationRoot []byte `json:"attestation_root"`
}

// HostURL is the host's server for the test. The port is in it, since the library's
// dialer takes plain HTTP without one for a mistake; what goes there is no secret.
var HostURL = fmt.Sprintf("http://host:%d", WorldPort)

// Client is a guest's client of that server, over vsock.
func Client() *http.Client {
	dialer := vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(HostCID, WorldPort)}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: 30 * time.Second}
}

// AskWorld asks the host, from a guest.
func AskWorld(ctx context.Context) (*World, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, HostURL+"/world", nil)
	if err != nil {
		return nil, err
	}
	res, err := Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the host tells nothing of the world: %s", res.Status)
	}
	var w World
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&w); err != nil {
		return nil, err
	}
	return &w, nil
}
