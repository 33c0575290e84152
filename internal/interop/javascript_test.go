package interop

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

// javaScript is a process that makes KMS calls with the AWS SDK for JavaScript.
type javaScript struct {
	t       *testing.T
	calls   *json.Encoder
	answers *bufio.Scanner
	stderr  *bytes.Buffer
}

// object is an object of JSON; bytes are blob in it.
type object map[string]any

// blob is bytes, as calls.js has them.
type blob struct {
	Bytes []byte `json:"bytes"`
}

type javaScriptError struct {
	Name, Message     string
	Status            int
	Service, Modelled bool
}

func startJavaScript(t *testing.T, server *kmstest.Server) *javaScript {
	t.Helper()
	node, dir := installJavaScript(t)
	home := t.TempDir()
	authority := filepath.Join(home, "authority.pem")
	if err := os.WriteFile(authority, authorityOf(t, server), 0o600); err != nil {
		t.Fatal(err)
	}
	config := server.Config()
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := json.Marshal(object{
		"endpoint": server.URL(), "region": config.Region, "maxAttempts": 1,
		"credentials": object{
			"accessKeyId": credentials.AccessKeyID, "secretAccessKey": credentials.SecretAccessKey,
			"sessionToken": credentials.SessionToken,
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(node, "calls.js")
	cmd.Dir = dir
	// Nothing of this machine's AWS or Node.js configuration.
	cmd.Env = []string{"HOME=" + home, "NODE_EXTRA_CA_CERTS=" + authority, "KMS_CLIENT=" + string(client)}
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // the end of input is the script's end
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("%v: %s", err, stderr)
		}
	})
	answers := bufio.NewScanner(stdout)
	answers.Buffer(nil, 1<<20)
	return &javaScript{t: t, calls: json.NewEncoder(stdin), answers: answers, stderr: stderr}
}

// authorityOf returns the authority of the server's certificate, as PEM. A pool
// doesn't give its certificates away; a handshake does.
func authorityOf(t *testing.T, server *kmstest.Server) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", server.Addr(), &tls.Config{RootCAs: server.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	chain := conn.ConnectionState().VerifiedChains[0]
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw})
}

// call makes a call; client, if it isn't nil, overrides the client's
// configuration. Of output and failure one is nil.
func (j *javaScript) call(operation string, input, client object) (output json.RawMessage, failure *javaScriptError) {
	j.t.Helper()
	if err := j.calls.Encode(object{"operation": operation, "input": input, "client": client}); err != nil {
		j.t.Fatalf("%s: %v", operation, err)
	}
	if !j.answers.Scan() {
		j.t.Fatalf("%s: no answer: %v\n%s", operation, j.answers.Err(), j.stderr)
	}
	var answer struct {
		Output json.RawMessage
		Error  *javaScriptError
	}
	if err := json.Unmarshal(j.answers.Bytes(), &answer); err != nil {
		j.t.Fatalf("%s: %v: %s", operation, err, j.answers.Bytes())
	}
	if (answer.Output == nil) == (answer.Error == nil) {
		j.t.Fatalf("%s: neither output nor error, or both: %s", operation, j.answers.Bytes())
	}
	return answer.Output, answer.Error
}

// javaScriptOutput has the fields of the outputs of all operations that kmstest
// knows; Plaintext and the like are nil if they aren't there.
type javaScriptOutput struct {
	CiphertextBlob, Plaintext, CiphertextForRecipient        *blob
	PrivateKeyCiphertextBlob, PrivateKeyPlaintext, PublicKey *blob
	SharedSecret                                             *blob
	KeyID                                                    string `json:"KeyId"`
	KeyMaterialID                                            string `json:"KeyMaterialId"`
	EncryptionAlgorithm, KeyAgreementAlgorithm, KeyOrigin    string
	KeyPairSpec, KeySpec, KeyUsage, CustomerMasterKeySpec    string
	KeyAgreementAlgorithms                                   []string
	KeyMetadata                                              *javaScriptKeyMetadata
}

type javaScriptKeyMetadata struct {
	Arn, AWSAccountID, KeyUsage, KeyState, KeySpec string
	Enabled                                        bool
	CreationDate                                   time.Time
}

// do makes a call that succeeds.
func (j *javaScript) do(operation string, input object) (out javaScriptOutput) {
	j.t.Helper()
	output, failure := j.call(operation, input, nil)
	if failure != nil {
		j.t.Fatalf("%s: %+v", operation, *failure)
	}
	if err := json.Unmarshal(output, &out); err != nil {
		j.t.Fatalf("%s: %v: %s", operation, err, output)
	}
	return out
}

// fail makes a call that KMS refuses.
func (j *javaScript) fail(what, want, operation string, input, client object) {
	j.t.Helper()
	output, failure := j.call(operation, input, client)
	if failure == nil {
		j.t.Errorf("%s: an output, not %s: %s", what, want, output)
		return
	}
	// These are of all services, so the SDK has no class for them.
	common := []string{"AccessDeniedException", "ValidationException", "UnrecognizedClientException", "InvalidSignatureException", "UnknownOperationException"}
	if failure.Name != want || failure.Status != 400 || !failure.Service || failure.Modelled == slices.Contains(common, want) {
		j.t.Errorf("%s: %+v, want %s", what, *failure, want)
	}
}
