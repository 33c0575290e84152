package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Another role's credentials come through Dial, with TLS to STS's own name,
// wherever the environment would have them come from.
func TestAssumeRole(t *testing.T) {
	const stsHost = "sts.eu-west-1.amazonaws.com"
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Form.Get("Action") != "AssumeRole" || r.Host != stsHost ||
			!strings.Contains(r.Header.Get("Authorization"), "Credential=AKIAOPTION/") {
			t.Errorf("request for %s: %v", r.Host, r.Form)
		}
		fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>`+
			`<Credentials><AccessKeyId>ASIAOTHER</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>%s</Expiration></Credentials>`+
			`</AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	certificate, roots := newCertificate(t, []string{stsHost})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	assume := func(roots *x509.CertPool) (aws.Credentials, error) {
		cfg, err := LoadConfig(t.Context(), ConfigOptions{
			Region:      region,
			Credentials: credentials.NewStaticCredentialsProvider("AKIAOPTION", "option", ""),
			RootCAs:     roots,
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				if address != stsHost+":443" {
					t.Errorf("dialled %s", address)
				}
				var d net.Dialer
				return d.DialContext(ctx, network, server.Listener.Addr().String())
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer cfg.HTTPClient.(*http.Client).CloseIdleConnections()
		return stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), "arn:aws:iam::111122223333:role/enclave").Retrieve(t.Context())
	}
	if got, err := assume(roots); err != nil || got.AccessKeyID != "ASIAOTHER" {
		t.Errorf("key %q, error %v", got.AccessKeyID, err)
	}
	_, err := assume(nil)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("a certificate that isn't Amazon's: error %v", err)
	}
}
