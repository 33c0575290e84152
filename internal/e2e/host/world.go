package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

const region = "eu-central-1"

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// world is all around the guest: the parent instance with its proxy, KMS, and who
// signs for AWS.
type world struct {
	pki   *nsmtest.PKI
	kms   *kmstest.Server
	says  e2e.World
	vsock string // the guest's socket, for what goes into the guest

	secret     []byte                  // what KMS releases
	measured   map[int]attestation.PCR // to whom
	unmeasured bool                    // the PCRs 0 to 2 are zero

	beats  atomic.Int64
	signed atomic.Int64
	stop   context.CancelFunc
	ended  sync.WaitGroup
}

// measuredAtBoot are the PCRs that KMS asks of a machine. A PC measures nothing, so
// there it is PCR16, which the guest extends twice with "hello" and locks before
// anything else.
func measuredAtBoot(m *machine) map[int]attestation.PCR {
	if m.PCRs != nil {
		return map[int]attestation.PCR{0: m.PCRs[0], 1: m.PCRs[1], 2: m.PCRs[2]}
	}
	var pcr attestation.PCR
	for range 2 {
		pcr = extend(pcr, []byte("hello"))
	}
	return map[int]attestation.PCR{16: pcr}
}

func newWorld(ctx context.Context, m *machine, vsock string) (_ *world, err error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &world{vsock: vsock, stop: cancel, measured: measuredAtBoot(m), unmeasured: m.Name == machinePC}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.pki, err = nsmtest.NewPKI(nsmtest.PKIOptions{}); err != nil {
		return nil, err
	}
	if w.kms, err = kmstest.NewServer(kmstest.Options{AttestationRoot: w.pki.Root(), Region: region}); err != nil {
		return nil, err
	}
	var wanted, other []kmstest.Condition
	for index, value := range w.measured {
		wanted = append(wanted, kmstest.PCREquals(index, value))
		value[0] ^= 1
		other = append(other, kmstest.PCREquals(index, value))
	}
	w.secret = make([]byte, 32)
	rand.Read(w.secret)
	digest := sha256.Sum256(w.secret)
	w.says.SHA256 = hex.EncodeToString(digest[:])
	if w.says.KeyARN, w.says.Sealed, err = w.seal(ctx, wanted, w.secret); err != nil {
		return nil, err
	}
	if w.says.OtherKeyARN, w.says.OtherSealed, err = w.seal(ctx, other, w.secret); err != nil {
		return nil, err
	}
	config := w.kms.Config()
	credentials, err := config.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	w.says.Region = region
	w.says.AccessKeyID, w.says.SecretAccessKey, w.says.SessionToken = credentials.AccessKeyID, credentials.SecretAccessKey, credentials.SessionToken
	w.says.AttestationRoot = w.pki.Root().Raw
	if w.says.RootCAs, err = w.kmsRoot(ctx); err != nil {
		return nil, err
	}

	// What a guest sends to context ID 2, port P, arrives at the socket vsock_P.
	listen := func(port int) (net.Listener, error) {
		return vsockproxy.Listen(ctx, vsockproxy.Unix(fmt.Sprintf("%s_%d", vsock, port)))
	}
	ask, err := listen(e2e.WorldPort)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /world", w.tell)
	mux.HandleFunc("POST /sign", w.sign)
	mux.HandleFunc("POST /visit", w.visit)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	w.ended.Go(func() { _ = server.Serve(ask) })
	context.AfterFunc(ctx, func() { _ = server.Close() })

	beats, err := listen(e2e.BeatPort)
	if err != nil {
		return nil, err
	}
	w.ended.Go(func() { w.answerBeats(beats) })
	context.AfterFunc(ctx, func() { _ = beats.Close() })

	allow, err := vsockproxy.ParseAllowlist(w.kms.Addr())
	if err != nil {
		return nil, err
	}
	entry, err := listen(e2e.ProxyPort)
	if err != nil {
		return nil, err
	}
	metadata, err := listen(metadataPort)
	if err != nil {
		return nil, err
	}
	instance := &http.Server{Handler: w.metadata(), ReadHeaderTimeout: time.Minute}
	w.ended.Go(func() { _ = instance.Serve(metadata) })
	context.AfterFunc(ctx, func() { _ = instance.Close() })

	proxy := &vsockproxy.Proxy{Route: vsockproxy.To(w.kms.Addr()), Allow: allow, DrainTimeout: time.Millisecond}
	w.ended.Go(func() { _ = proxy.Serve(ctx, entry) })
	return w, nil
}

// metadataPort is where the parent forwards to the instance's metadata service.
const metadataPort = 8002

// metadata is the instance's metadata service, version 2, as far as credentials of
// the role need it.
func (w *world) metadata() http.Handler {
	const path, role, token = "/latest/meta-data/iam/security-credentials/", "parent-instance", "token"
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(res http.ResponseWriter, _ *http.Request) {
		res.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		_, _ = io.WriteString(res, token)
	})
	mux.HandleFunc("GET "+path, func(res http.ResponseWriter, req *http.Request) {
		switch {
		case req.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
			http.Error(res, "no token", http.StatusUnauthorized)
		case req.URL.Path == path:
			_, _ = io.WriteString(res, role)
		default:
			_ = json.NewEncoder(res).Encode(map[string]string{
				"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC().Format(time.RFC3339),
				"AccessKeyId": w.says.AccessKeyID, "SecretAccessKey": w.says.SecretAccessKey, "Token": w.says.SessionToken,
				"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
			})
		}
	})
	return mux
}

// close ends all of it.
func (w *world) close() {
	w.stop()
	w.ended.Wait()
	if w.kms != nil {
		w.kms.Close()
	}
}

// seal makes a key that KMS releases under conditions, and encrypts a secret.
func (w *world) seal(ctx context.Context, conditions []kmstest.Condition, secret []byte) (string, []byte, error) {
	key, err := w.kms.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(conditions[0], conditions[1:]...)})
	if err != nil {
		return "", nil, err
	}
	client := kms.NewFromConfig(w.kms.Config(), func(o *kms.Options) { o.HTTPClient = w.kms.Client() })
	out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key), Plaintext: secret})
	if err != nil {
		return "", nil, err
	}
	return key, out.CiphertextBlob, nil
}

// kmsRoot is the authority of the stand-in's certificate, PEM: it comes with the
// chain of any connection.
func (w *world) kmsRoot(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.kms.URL(), nil)
	if err != nil {
		return nil, err
	}
	res, err := w.kms.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	chain := res.TLS.VerifiedChains[0]
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw}), nil
}

func (w *world) tell(res http.ResponseWriter, _ *http.Request) {
	says := w.says
	says.Time = time.Now()
	_ = json.NewEncoder(res).Encode(says)
}

// sign signs, in place of AWS, what the guest's NSM wrote into a document.
func (w *world) sign(res http.ResponseWriter, req *http.Request) {
	document, err := w.issue(req)
	if err != nil {
		http.Error(res, err.Error(), http.StatusBadRequest)
		return
	}
	w.signed.Add(1)
	_, _ = res.Write(document)
}

func (w *world) issue(req *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(req.Body, nsm.MaxResponseSize))
	if err != nil {
		return nil, err
	}
	u, err := e2e.ParseUnsigned(raw)
	if err != nil {
		return nil, err
	}
	signer, err := nsmtest.New(nsmtest.Options{PKI: w.pki, ModuleID: u.ModuleID, EditDocument: func(d *nsmtest.Document) {
		// All but the time, which is whole seconds in QEMU's documents, and the
		// certificates, which are zeros.
		d.Digest, d.PCRs = u.Digest, u.PCRs
		d.PublicKey, d.UserData, d.Nonce = u.PublicKey, u.UserData, u.Nonce
	}})
	if err != nil {
		return nil, err
	}
	return nsm.NewSession(signer).Attest(req.Context(), nsm.AttestationRequest{})
}

// answerBeats sends each heartbeat back, as nitro-cli does.
func (w *world) answerBeats(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		w.ended.Go(func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			var beat bytes.Buffer
			if _, err := io.CopyN(&beat, conn, 1); err != nil || beat.Bytes()[0] != 0xB7 {
				return
			}
			if _, err := conn.Write(beat.Bytes()); err == nil {
				w.beats.Add(1)
			}
		})
	}
}

// judge looks at what arrived outside the guest.
func (w *world) judge(m *machine) {
	m.verdict("host/heartbeats", fmt.Sprintf("%d arrived at the host", w.beats.Load()), func() error {
		if w.beats.Load() == 0 {
			return errors.New("none arrived")
		}
		return nil
	})
	requests := w.kms.Requests()
	released, refused := 0, map[string]int{}
	var wrong error
	for _, r := range requests {
		switch {
		case !r.Recipient: // the owner's, from the host
		case r.ErrorCode != "":
			refused[r.ErrorCode]++
		default:
			released++
			for index, want := range w.measured {
				if r.Attestation.PCRs[index] != want {
					wrong = fmt.Errorf("%s was answered to PCR%d %s", r.Operation, index, r.Attestation.PCRs[index])
				}
			}
		}
	}
	m.verdict("host/kms", fmt.Sprintf("%d attested answers, each to the PCRs that were expected; refused %v; %d documents signed in AWS's place", released, refused, w.signed.Load()), func() error {
		switch {
		case wrong != nil:
			return wrong
		case released == 0 || refused["AccessDeniedException"] == 0 || refused["ValidationException"] == 0:
			return errors.New("not all of the key releases reached KMS")
		}
		return nil
	})
}
