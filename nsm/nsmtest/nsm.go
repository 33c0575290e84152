package nsmtest

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keyvouch/keyvouch/attestation/pcr"
	"github.com/keyvouch/keyvouch/nsm"
)

const (
	// NumPCRs is the number of PCRs of the software NSM, as on hardware.
	NumPCRs = 32

	// bootLocked is the number of PCRs that are locked when an enclave starts.
	bootLocked = 16

	// randomSize is what one GetRandom request gives, in bytes.
	randomSize = 256

	// maxNameSize bounds the names in the options, in bytes, so that the
	// certificates that carry them stay under the 1024 bytes of AWS's rules.
	maxNameSize = 128

	digestName        = "SHA384"
	defaultInstanceID = "i-0123456789abcdef0"
)

// Options say what enclave the software NSM stands for. The zero value is an
// enclave in production mode with an empty image.
type Options struct {
	// Image is measured into the PCRs 0 to 2; see [Measure].
	Image []byte

	// Debug stands for an enclave in debug mode, whose PCRs 0 to 2 are zero.
	Debug bool

	// PKI signs the documents. Nil makes a new one with this Clock. Several
	// NSMs may share a PKI, so that one root vouches for all.
	PKI *PKI

	// ModuleID names the NSM, at most 128 bytes. Empty makes one of the shape
	// of real ones: InstanceID + "-enc" + 16 hexadecimal digits.
	ModuleID string

	// InstanceID is the parent instance's ID, at most 128 bytes. PCR4 is
	// SHA384(0^48 ‖ InstanceID). Empty means the part of ModuleID before
	// "-enc", or else "i-0123456789abcdef0".
	InstanceID string

	// RoleARN is the ARN of the parent instance's IAM role. PCR3 is
	// SHA384(0^48 ‖ RoleARN), or zero when it is empty.
	RoleARN string

	// LegacyShape writes the payload of documents as a map of definite length,
	// as hardware did until May 2025. Newer ones have an indefinite length.
	LegacyShape bool

	// Clock is the NSM's time. Nil means the PKI's clock, if a PKI is given,
	// and time.Now otherwise.
	Clock func() time.Time

	// EditDocument, if set, is called with every document just before it is
	// encoded and signed, so that a test can have documents that AWS never
	// makes. All that it gets is a copy, so a change stays in that document. It
	// may be called concurrently.
	EditDocument func(*Document)
}

// NSM is a Nitro Secure Module in software. It is an [nsm.Device], takes and
// gives the bytes that /dev/nsm does, and is safe for concurrent use.
type NSM struct {
	opts     Options
	identity *identity

	mu     sync.Mutex
	pcrs   [NumPCRs]pcr.Value
	locked [NumPCRs]bool
	closed bool
}

// New returns a software NSM as an enclave finds it at boot: PCRs 0 to 15
// locked, 16 to 31 zero and open. Options that cannot work fail with
// [ReasonInvalidOptions].
func New(opts Options) (*NSM, error) {
	for _, o := range []struct{ name, value string }{{"ModuleID", opts.ModuleID}, {"InstanceID", opts.InstanceID}} {
		if len(o.value) > maxNameSize {
			return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Field: "Options." + o.name, Detail: fmt.Sprintf("is %d bytes, want at most %d", len(o.value), maxNameSize)}
		}
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
		if opts.PKI != nil {
			opts.Clock = opts.PKI.opts.Clock
		}
	}
	if opts.PKI == nil {
		pki, err := NewPKI(PKIOptions{Clock: opts.Clock})
		if err != nil {
			return nil, err
		}
		opts.PKI = pki
	}
	if opts.InstanceID == "" {
		opts.InstanceID = defaultInstanceID
		if instance, _, ok := strings.Cut(opts.ModuleID, "-enc"); ok && instance != "" {
			opts.InstanceID = instance
		}
	}
	if opts.ModuleID == "" {
		opts.ModuleID = opts.InstanceID + "-enc" + enclaveID(opts.Clock())
	}

	n := &NSM{opts: opts, identity: newIdentity(opts.PKI, opts.InstanceID, opts.ModuleID)}
	if !opts.Debug {
		n.pcrs[0], n.pcrs[1], n.pcrs[2] = Measure(opts.Image)
	}
	if opts.RoleARN != "" {
		n.pcrs[3] = extend(pcr.Value{}, []byte(opts.RoleARN))
	}
	n.pcrs[4] = extend(pcr.Value{}, []byte(opts.InstanceID))
	for i := range bootLocked {
		n.locked[i] = true
	}
	return n, nil
}

// enclaveID makes an enclave's ID like the real ones: 16 hexadecimal digits,
// of which the first 12 are the time in milliseconds.
func enclaveID(now time.Time) string {
	var random [2]byte
	rand.Read(random[:])
	return fmt.Sprintf("%012x%04x", uint64(now.UnixMilli())&(1<<48-1), binary.BigEndian.Uint16(random[:]))
}

// Send answers one request as hardware does. What the NSM refuses is a CBOR
// answer; the error is for what the driver refuses, which is an *nsm.Error (a
// request of 0 or more than nsm.MaxRequestSize bytes, a closed device), and for
// a document that cannot be signed, which is an *[Error].
func (n *NSM) Send(request []byte) ([]byte, error) {
	// The driver answers EMSGSIZE to an over-long request; an empty one blocks
	// it for minutes, which no test wants.
	if len(request) == 0 || len(request) > nsm.MaxRequestSize {
		return nil, &nsm.Error{
			Op: "Send", Reason: nsm.ReasonRequestSize, Code: nsm.CodeInputTooLarge, Err: syscall.EMSGSIZE,
			Detail: fmt.Sprintf("a request of %d bytes, want 1 to %d", len(request), nsm.MaxRequestSize),
		}
	}
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return nil, &nsm.Error{Op: "Send", Reason: nsm.ReasonClosed, Detail: "the software NSM was closed"}
	}

	// The caller may change its buffer afterwards.
	req, ok := parseRequest(slices.Clone(request))
	if !ok {
		return answerError(nsm.CodeInvalidOperation), nil
	}
	switch req.kind {
	case kindDescribeNSM:
		return answerDescribeNSM(n.opts.ModuleID, n.lockedPCRs()), nil
	case kindGetRandom:
		random := make([]byte, randomSize)
		rand.Read(random)
		return answerBytes(kindGetRandom, "random", random), nil
	case kindAttestation:
		return n.attest(req)
	case kindLockPCRs:
		return n.lockPCRs(req.count), nil
	}
	return n.onPCR(req), nil
}

// Close closes the device: later requests fail with nsm.ReasonClosed.
func (n *NSM) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return nil
}

// Root returns the certificate that a verifier must trust instead of AWS's.
func (n *NSM) Root() *x509.Certificate { return n.opts.PKI.Root() }

// ModuleID returns the NSM's name.
func (n *NSM) ModuleID() string { return n.opts.ModuleID }

// PCR returns the value of a PCR, locked or not. It is zero for an index that
// is not 0 to 31.
func (n *NSM) PCR(index int) pcr.Value {
	if index < 0 || index >= NumPCRs {
		return pcr.Value{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pcrs[index]
}

func (n *NSM) lockedPCRs() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	var indexes []int
	for i, locked := range n.locked {
		if locked {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// onPCR answers a request about one PCR.
func (n *NSM) onPCR(req request) []byte {
	if req.index >= NumPCRs {
		return answerError(nsm.CodeInvalidIndex)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if req.kind == kindDescribePCR {
		return answerDescribePCR(n.locked[req.index], n.pcrs[req.index][:])
	}
	if n.locked[req.index] {
		return answerError(nsm.CodeReadOnlyIndex)
	}
	if req.kind == kindLockPCR {
		n.locked[req.index] = true
		return appendText(nil, kindLockPCR)
	}
	n.pcrs[req.index] = extend(n.pcrs[req.index], req.data)
	return answerBytes(kindExtendPCR, "data", n.pcrs[req.index][:])
}

func (n *NSM) lockPCRs(count int) []byte {
	if count > NumPCRs {
		return answerError(nsm.CodeInvalidIndex)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range count {
		n.locked[i] = true
	}
	return appendText(nil, kindLockPCRs)
}

// attest answers a request for a document.
func (n *NSM) attest(req request) ([]byte, error) {
	for _, field := range [][]byte{req.userData, req.nonce, req.publicKey} {
		if len(field) > nsm.MaxFieldSize {
			return answerError(nsm.CodeInputTooLarge), nil
		}
	}
	now := n.opts.Clock()
	chain, err := n.identity.at(now)
	if err != nil {
		return nil, err
	}
	doc := &Document{
		ModuleID:        n.opts.ModuleID,
		Digest:          digestName,
		TimestampMillis: uint64(now.UnixMilli()),
		PCRs:            map[int][]byte{},
		Certificate:     chain.Certificate,
		CABundle:        chain.CABundle,
		PublicKey:       req.publicKey,
		UserData:        req.userData,
		Nonce:           req.nonce,
	}
	n.mu.Lock()
	for i, locked := range n.locked {
		if locked { // an open PCR is never in a document
			doc.PCRs[i] = slices.Clone(n.pcrs[i][:])
		}
	}
	n.mu.Unlock()
	if n.opts.EditDocument != nil {
		n.opts.EditDocument(doc)
	}
	signed, err := sign(chain.Key, doc.payload(n.opts.LegacyShape))
	if err != nil {
		return nil, err
	}
	response := answerBytes(kindAttestation, "document", signed)
	if len(response) > nsm.MaxResponseSize {
		return answerError(nsm.CodeBufferTooSmall), nil
	}
	return response, nil
}

// SignPayload signs any bytes as the payload of a document, as a COSE_Sign1
// with the leaf's key, so that a test can write payloads byte by byte. What is
// also to differ in the COSE around it can be made with [NSM.Chain].
func (n *NSM) SignPayload(payload []byte) ([]byte, error) {
	chain, err := n.identity.at(n.opts.Clock())
	if err != nil {
		return nil, err
	}
	return sign(chain.Key, payload)
}

// Chain returns the leaf's key and the certificates that documents carry now.
func (n *NSM) Chain() (Chain, error) {
	return n.identity.at(n.opts.Clock())
}

// sortedIndexes returns the keys of a document's PCRs in ascending order.
func sortedIndexes(pcrs map[int][]byte) []int {
	return slices.Sorted(maps.Keys(pcrs))
}
