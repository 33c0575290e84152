package attestation_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// TestEnvelopeAttacks alters what stands around the payload.
func TestEnvelopeAttacks(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)

	// 84 44 a1013822 a0 59 LLLL payload 5860 signature
	const protectedAt, unprotectedAt, payloadAt = 1, 6, 7
	payloadEnd := payloadAt + 3 + int(binary.BigEndian.Uint16(raw[payloadAt+1:]))
	payload := raw[payloadAt:payloadEnd]
	signature := raw[payloadEnd:]
	message := func(protected, unprotected, payload, signature []byte) []byte {
		return join([]byte{0x84}, protected, unprotected, payload, signature)
	}
	protected, unprotected := raw[protectedAt:unprotectedAt], raw[unprotectedAt:payloadAt]
	if !bytes.Equal(message(protected, unprotected, payload, signature), raw) {
		t.Fatal("the document isn't laid out as this test believes")
	}
	order := elliptic.P384().Params().N.FillBytes(make([]byte, 48))

	flipped := bytes.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name string
		raw  []byte
		want attestation.Reason
	}{
		{"nothing", nil, attestation.ReasonDocumentSize},
		{"too long", make([]byte, attestation.MaxDocumentSize+1), attestation.ReasonDocumentSize},
		{"truncated in the head", raw[:1], attestation.ReasonMalformedCBOR},
		{"truncated in the payload", raw[:1000], attestation.ReasonMalformedCBOR},
		{"truncated in the signature", raw[:len(raw)-1], attestation.ReasonMalformedCBOR},
		{"trailing byte", join(raw, []byte{0}), attestation.ReasonTrailingBytes},
		{"three elements", join([]byte{0x83}, protected, unprotected, payload), attestation.ReasonNotSign1},
		{"five elements", join([]byte{0x85}, raw[1:], []byte{0xf6}), attestation.ReasonNotSign1},
		{"indefinite array", join([]byte{0x9f}, raw[1:], []byte{0xff}), attestation.ReasonNotSign1},
		{"long array head", join([]byte{0x98, 4}, raw[1:]), attestation.ReasonMalformedCBOR},
		{"a map", []byte{0xa0}, attestation.ReasonNotSign1},
		{"ES256", message([]byte{0x43, 0xa1, 1, 0x26}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"ES512", message([]byte{0x44, 0xa1, 1, 0x38, 0x23}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"alg as a long integer", message([]byte{0x45, 0xa1, 1, 0x39, 0, 0x22}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"alg twice", message([]byte{0x47, 0xa2, 1, 0x38, 0x22, 1, 0x38, 0x22}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"alg only unprotected", message([]byte{0x40}, []byte{0xa1, 1, 0x38, 0x22}, payload, signature), attestation.ReasonAlgorithm},
		{"empty protected map", message([]byte{0x41, 0xa0}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"extra protected key", message([]byte{0x46, 0xa2, 1, 0x38, 0x22, 4, 0x40}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"bytes after the protected map", message([]byte{0x45, 0xa1, 1, 0x38, 0x22, 0}, unprotected, payload, signature), attestation.ReasonAlgorithm},
		{"protected not a byte string", message([]byte{0xa1, 1, 0x38, 0x22}, unprotected, payload, signature), attestation.ReasonNotSign1},
		{"unprotected header", message(protected, []byte{0xa1, 4, 0x41, 'k'}, payload, signature), attestation.ReasonUnprotectedHeader},
		{"null unprotected header", message(protected, []byte{0xf6}, payload, signature), attestation.ReasonNotSign1},
		{"indefinite unprotected header", message(protected, []byte{0xbf, 0xff}, payload, signature), attestation.ReasonMalformedCBOR},
		{"detached payload", message(protected, unprotected, []byte{0xf6}, signature), attestation.ReasonNotSign1},
		{"empty payload", message(protected, unprotected, []byte{0x40}, signature), attestation.ReasonPayloadSize},
		{"long payload", message(protected, unprotected, cborOf(make([]byte, attestation.MaxPayloadSize+1)), signature), attestation.ReasonPayloadSize},
		{"payload length beyond the end", message(protected, unprotected, []byte{0x59, 0x40, 0x00}, nil), attestation.ReasonMalformedCBOR},
		{"payload in chunks", message(protected, unprotected, join([]byte{0x5f}, payload, []byte{0xff}), signature), attestation.ReasonMalformedCBOR},
		{"no signature", message(protected, unprotected, payload, []byte{0x40}), attestation.ReasonSignatureSize},
		{"short signature", message(protected, unprotected, payload, cborOf(make([]byte, 95))), attestation.ReasonSignatureSize},
		{"long signature", message(protected, unprotected, payload, cborOf(make([]byte, 97))), attestation.ReasonSignatureSize},
		{"signature of zeros", message(protected, unprotected, payload, cborOf(make([]byte, 96))), attestation.ReasonSignature},
		{"signature of r = s = n", message(protected, unprotected, payload, cborOf(join(order, order))), attestation.ReasonSignature},
		{"signature of ones", message(protected, unprotected, payload, cborOf(bytes.Repeat([]byte{0xff}, 96))), attestation.ReasonSignature},
		{"signature bit", flipped, attestation.ReasonSignature},
	} {
		t.Run(c.name, func(t *testing.T) { rejects(t, v, c.raw, expectNonce, c.want) })
	}
}

// Every byte of a document is signed or fixed: no change may go unnoticed.
func TestEveryByteCounts(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)
	for i := range raw {
		if i > 64 && i%7 != 0 {
			continue // all of the head, and a sample of the rest
		}
		altered := bytes.Clone(raw)
		altered[i] ^= 0x01
		if doc, err := v.Verify(altered, expectNonce); err == nil || doc != nil {
			t.Errorf("byte %d may be altered", i)
		}
	}
}

// TestPayloadAttacks has the NSM's own key sign payloads that no NSM writes.
func TestPayloadAttacks(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	f := payloadFields(t, e.attest(t))
	pcrs := f.get("pcrs")
	value := cborOf(make([]byte, 48))
	// pairs writes a map of as many entries as there are pairs of parts.
	pairs := func(parts ...[]byte) []byte { return join([]byte{0xa0 | byte(len(parts)/2)}, join(parts...)) }
	bundle := func(items ...[]byte) []byte { return join([]byte{0x80 | byte(len(items))}, join(items...)) }
	many := join([]byte{0xb8, 33})
	for i := range 33 {
		many = join(many, cborOf(i), value)
	}
	bomb := f
	for i := range 1500 {
		bomb = bomb.add(fmt.Sprint("x", i), []byte{0})
	}
	definite := join([]byte{0xa9}, f.encode()[1:len(f.encode())-1])

	for _, c := range []struct {
		name    string
		payload []byte
		want    attestation.Reason // "" if it is to be accepted
	}{
		{"as it was", f.encode(), ""},
		{"definite map", definite, ""},
		{"absent optionals", f.drop("public_key").drop("user_data").encode(), ""},
		{"another order", append(fields{{"nonce", f.get("nonce")}}, f.drop("nonce")...).encode(), ""},
		{"a sparse PCR map", f.set("pcrs", sparse(t, e)).encode(), ""},
		{"an unknown field", f.add("later", cborOf(map[string][]int{"a": {1, 2}})).encode(), ""},

		{"not a map", []byte{0x80}, attestation.ReasonFieldType},
		{"trailing byte", join(f.encode(), []byte{0}), attestation.ReasonTrailingBytes},
		{"no break", f.encode()[:len(f.encode())-1], attestation.ReasonMalformedCBOR},
		{"count too large", join([]byte{0xaa}, definite[1:]), attestation.ReasonMalformedCBOR},
		{"count too small", join([]byte{0xa8}, definite[1:]), attestation.ReasonTrailingBytes},
		{"count absurd", []byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, attestation.ReasonFieldUnknown},
		{"key not text", join([]byte{0xa1, 0x41, 'a'}, value), attestation.ReasonFieldType},
		{"key not UTF-8", join([]byte{0xa1, 0x61, 0xff}, value), attestation.ReasonMalformedCBOR},
		{"module_id twice", f.add("module_id", cborOf("i-1")).encode(), attestation.ReasonFieldDuplicate},
		{"nonce twice, once null", f.add("nonce", []byte{0xf6}).encode(), attestation.ReasonFieldDuplicate},
		{"PCRS beside pcrs", f.add("PCRS", pcrs).encode(), attestation.ReasonFieldUnknown},
		{"a thousand unknown fields", bomb.encode(), attestation.ReasonFieldUnknown},
		{"unknown field twice", f.add("x", []byte{0}).add("X", []byte{0}).encode(), attestation.ReasonFieldDuplicate},
		{"unknown field nests deep", f.add("x", join(bytes.Repeat([]byte{0x81}, 50), []byte{0})).encode(), attestation.ReasonMalformedCBOR},
		{"unknown field of a billion", f.add("x", []byte{0x9a, 0x40, 0, 0, 0}).encode(), attestation.ReasonMalformedCBOR},
		{"unknown field with a tag", f.add("x", []byte{0xc0, 0x00}).encode(), attestation.ReasonFieldType},
		{"unknown field undefined", f.add("x", []byte{0xf7}).encode(), attestation.ReasonFieldType},
		{"unknown field indefinite", f.add("x", []byte{0x9f, 0xff}).encode(), attestation.ReasonMalformedCBOR},
		{"unknown field a float", f.add("x", []byte{0xf9, 0x3c, 0x00}).encode(), attestation.ReasonMalformedCBOR},

		{"no module_id", f.drop("module_id").encode(), attestation.ReasonFieldMissing},
		{"null module_id", f.set("module_id", []byte{0xf6}).encode(), attestation.ReasonFieldMissing},
		{"empty module_id", f.set("module_id", cborOf("")).encode(), attestation.ReasonFieldSize},
		{"long module_id", f.set("module_id", cborOf(strings.Repeat("i", 257))).encode(), attestation.ReasonFieldSize},
		{"module_id of bytes", f.set("module_id", cborOf([]byte("i-1"))).encode(), attestation.ReasonFieldType},
		{"tagged module_id", f.set("module_id", join([]byte{0xc1}, cborOf("i-1"))).encode(), attestation.ReasonFieldType},
		{"no digest", f.drop("digest").encode(), attestation.ReasonFieldMissing},
		{"SHA256", f.set("digest", cborOf("SHA256")).encode(), attestation.ReasonDigest},
		{"sha384", f.set("digest", cborOf("sha384")).encode(), attestation.ReasonDigest},
		{"no timestamp", f.drop("timestamp").encode(), attestation.ReasonFieldMissing},
		{"timestamp 0", f.set("timestamp", cborOf(0)).encode(), attestation.ReasonTimestamp},
		{"negative timestamp", f.set("timestamp", cborOf(-1)).encode(), attestation.ReasonFieldType},
		{"timestamp in seconds", f.set("timestamp", cborOf(noon.Unix())).encode(), attestation.ReasonTimestamp},
		{"timestamp 2^64-1", f.set("timestamp", cborOf(uint64(1<<64-1))).encode(), attestation.ReasonTimestamp},
		{"timestamp not shortest", f.set("timestamp", []byte{0x1b, 0, 0, 0, 0, 1, 2, 3, 4}).encode(), attestation.ReasonMalformedCBOR},
		{"timestamp a float", f.set("timestamp", []byte{0xfb, 0x42, 0x78, 0, 0, 0, 0, 0, 0}).encode(), attestation.ReasonMalformedCBOR},

		{"no pcrs", f.drop("pcrs").encode(), attestation.ReasonFieldMissing},
		{"null pcrs", f.set("pcrs", []byte{0xf6}).encode(), attestation.ReasonFieldMissing},
		{"empty pcrs", f.set("pcrs", []byte{0xa0}).encode(), attestation.ReasonPCRs},
		{"33 PCRs", f.set("pcrs", many).encode(), attestation.ReasonPCRs},
		{"PCR32", f.set("pcrs", pairs(cborOf(32), value)).encode(), attestation.ReasonPCRs},
		{"PCR-1", f.set("pcrs", pairs(cborOf(-1), value)).encode(), attestation.ReasonFieldType},
		{"PCR \"0\"", f.set("pcrs", pairs(cborOf("0"), value)).encode(), attestation.ReasonFieldType},
		{"PCR0 twice", f.set("pcrs", pairs(cborOf(0), value, cborOf(0), value)).encode(), attestation.ReasonFieldDuplicate},
		{"PCR0 twice, once long", f.set("pcrs", pairs(cborOf(0), value, []byte{0x18, 0}, value)).encode(), attestation.ReasonMalformedCBOR},
		{"PCR of 0 bytes", f.set("pcrs", pairs(cborOf(0), []byte{0x40})).encode(), attestation.ReasonPCRs},
		{"PCR of 32 bytes", f.set("pcrs", pairs(cborOf(0), cborOf(make([]byte, 32)))).encode(), attestation.ReasonPCRs},
		{"PCR of 47 bytes", f.set("pcrs", pairs(cborOf(0), cborOf(make([]byte, 47)))).encode(), attestation.ReasonPCRs},
		{"PCR of 64 bytes", f.set("pcrs", pairs(cborOf(0), cborOf(make([]byte, 64)))).encode(), attestation.ReasonPCRs},
		{"indefinite pcrs", f.set("pcrs", join([]byte{0xbf}, pcrs[1:], []byte{0xff})).encode(), attestation.ReasonMalformedCBOR},
		{"pcrs and nitrotpm_pcrs", f.add("nitrotpm_pcrs", pcrs).encode(), attestation.ReasonPCRs},
		{"nitrotpm_pcrs alone", f.drop("pcrs").add("nitrotpm_pcrs", pcrs).encode(), attestation.ReasonPlatform},

		{"no certificate", f.drop("certificate").encode(), attestation.ReasonFieldMissing},
		{"empty certificate", f.set("certificate", []byte{0x40}).encode(), attestation.ReasonFieldSize},
		{"long certificate", f.set("certificate", cborOf(make([]byte, 1025))).encode(), attestation.ReasonFieldSize},
		{"garbage certificate", f.set("certificate", cborOf([]byte("no DER"))).encode(), attestation.ReasonCertificateMalformed},
		{"no cabundle", f.drop("cabundle").encode(), attestation.ReasonFieldMissing},
		{"empty cabundle", f.set("cabundle", []byte{0x80}).encode(), attestation.ReasonCABundle},
		{"cabundle of 7", f.set("cabundle", join([]byte{0x87}, bytes.Repeat([]byte{0x41, 0}, 7))).encode(), attestation.ReasonCABundle},
		{"null in cabundle", f.set("cabundle", bundle([]byte{0xf6})).encode(), attestation.ReasonFieldType},
		{"garbage in cabundle", f.set("cabundle", bundle(cborOf(e.Root().Raw), cborOf([]byte("no DER")))).encode(), attestation.ReasonCertificateMalformed},
		{"root alone", f.set("cabundle", bundle(cborOf(e.Root().Raw))).encode(), attestation.ReasonCertificateIssuer},
		{"root twice", f.set("cabundle", bundle(cborOf(e.Root().Raw), cborOf(e.Root().Raw))).encode(), attestation.ReasonCABundle},

		{"nonce of 1025 bytes", f.set("nonce", cborOf(make([]byte, 1025))).encode(), attestation.ReasonFieldSize},
		{"nonce of text", f.set("nonce", cborOf(string(nonce))).encode(), attestation.ReasonFieldType},
		{"undefined nonce", f.set("nonce", []byte{0xf7}).encode(), attestation.ReasonFieldType},
		{"indefinite nonce", f.set("nonce", []byte{0x5f, 0xff}).encode(), attestation.ReasonMalformedCBOR},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := e.SignPayload(c.payload)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				accepts(t, v, raw, expectNonce)
			} else {
				rejects(t, v, raw, expectNonce, c.want)
			}
		})
	}
}

// sparse is a PCR map with a few entries only, as some NSMs wrote.
func sparse(t *testing.T, e *enclave) []byte {
	t.Helper()
	m := []byte{0xa6}
	for _, i := range []int{0, 1, 2, 3, 4, 8} {
		pcr := e.PCR(i)
		m = join(m, cborOf(i), cborOf(pcr[:]))
	}
	return m
}

// TestChainOrder rearranges a good chain.
func TestChainOrder(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	chain, err := e.Chain()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newEnclave(t, nsmtest.Options{}).Chain()
	if err != nil {
		t.Fatal(err)
	}
	f := payloadFields(t, e.attest(t))
	root, regional, zonal, instance := chain.CABundle[0], chain.CABundle[1], chain.CABundle[2], chain.CABundle[3]
	for _, c := range []struct {
		name   string
		bundle [][]byte
		want   attestation.Reason
	}{
		{"good", [][]byte{root, regional, zonal, instance}, ""},
		{"reversed", [][]byte{instance, zonal, regional, root}, attestation.ReasonUntrustedRoot},
		{"swapped", [][]byte{root, zonal, regional, instance}, attestation.ReasonCertificateIssuer},
		{"instance missing", [][]byte{root, regional, zonal}, attestation.ReasonCertificateIssuer},
		{"root missing", [][]byte{regional, zonal, instance}, attestation.ReasonUntrustedRoot},
		{"another root", append([][]byte{other.CABundle[0]}, chain.CABundle[1:]...), attestation.ReasonUntrustedRoot},
		{"another root appended", append(append([][]byte{}, chain.CABundle...), other.CABundle[0]), attestation.ReasonCertificateUsage},
		{"another's regional", [][]byte{root, other.CABundle[1], zonal, instance}, attestation.ReasonCertificateIssuer},
		{"regional twice", [][]byte{root, regional, regional, zonal, instance}, attestation.ReasonCABundle},
		{"leaf in the bundle", [][]byte{root, regional, zonal, instance, chain.Certificate}, attestation.ReasonCABundle},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := e.SignPayload(f.set("cabundle", cborOf(c.bundle)).encode())
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				accepts(t, v, raw, expectNonce)
			} else {
				rejects(t, v, raw, expectNonce, c.want)
			}
		})
	}
}

// TestCertificateAttacks has the authorities issue certificates that AWS's
// never would, under the root that the verifier trusts.
func TestCertificateAttacks(t *testing.T) {
	at := func(level nsmtest.Level, edit func(*x509.Certificate)) nsmtest.PKIOptions {
		return nsmtest.PKIOptions{EditCertificate: func(l nsmtest.Level, c *x509.Certificate) {
			if l == level {
				edit(c)
			}
		}}
	}
	key := func(level nsmtest.Level, generate func() (crypto.Signer, error)) nsmtest.PKIOptions {
		return nsmtest.PKIOptions{GenerateKey: func(l nsmtest.Level) (crypto.Signer, error) {
			if l == level {
				return generate()
			}
			return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		}}
	}
	extension := func(id asn1.ObjectIdentifier, critical bool) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: []byte{5, 0}})
		}
	}
	unknown := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	leaf, instance, zonal, regional := nsmtest.LevelLeaf, nsmtest.LevelInstance, nsmtest.LevelZonal, nsmtest.LevelRegional

	for _, c := range []struct {
		name string
		pki  nsmtest.PKIOptions
		want attestation.Reason
	}{
		{"none", nsmtest.PKIOptions{}, ""},
		{"unknown extension", at(leaf, extension(unknown, false)), ""},
		{"leaf is a CA", at(leaf, func(c *x509.Certificate) { c.IsCA = true }), attestation.ReasonCertificateUsage},
		{"leaf without basic constraints", at(leaf, func(c *x509.Certificate) { c.BasicConstraintsValid = false }), attestation.ReasonCertificateUsage},
		{"leaf without digitalSignature", at(leaf, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }), attestation.ReasonCertificateUsage},
		{"leaf without key usage", at(leaf, func(c *x509.Certificate) { c.KeyUsage = 0; c.ExtraExtensions = nil }), attestation.ReasonCertificateUsage},
		{"leaf with a critical unknown extension", at(leaf, extension(unknown, true)), attestation.ReasonCertificateExtension},
		{"instance with a critical unknown extension", at(instance, extension(unknown, true)), attestation.ReasonCertificateExtension},
		{"instance isn't a CA", at(instance, func(c *x509.Certificate) { c.IsCA = false; c.MaxPathLen = 0; c.MaxPathLenZero = false }), attestation.ReasonCertificateUsage},
		{"zonal without keyCertSign", at(zonal, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), attestation.ReasonCertificateUsage},
		{"regional allows no CA below", at(regional, func(c *x509.Certificate) { c.MaxPathLen = 0; c.MaxPathLenZero = true }), attestation.ReasonCertificateUsage},
		{"name constraints", at(zonal, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical = true
			c.PermittedDNSDomains = []string{"example.com"}
		}), attestation.ReasonCertificateExtension},
		{"leaf expired", at(leaf, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }), attestation.ReasonCertificateExpired},
		{"instance expired", at(instance, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }), attestation.ReasonCertificateExpired},
		{"regional not yet valid", at(regional, func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }), attestation.ReasonCertificateNotYetValid},
		{"P-256 leaf", key(leaf, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }), attestation.ReasonCertificateAlgorithm},
		{"P-521 leaf", key(leaf, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) }), attestation.ReasonCertificateAlgorithm},
		{"P-256 instance", key(instance, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }), attestation.ReasonCertificateAlgorithm},
		{"RSA zonal", key(zonal, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }), attestation.ReasonCertificateAlgorithm},
		{"Ed25519 zonal", key(zonal, func() (crypto.Signer, error) {
			_, k, err := ed25519.GenerateKey(rand.Reader)
			return k, err
		}), attestation.ReasonCertificateAlgorithm},
		{"SHA-256 signature", at(instance, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 }), attestation.ReasonCertificateAlgorithm},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnclave(t, nsmtest.Options{PKI: newPKI(t, c.pki)})
			chain, err := e.Chain()
			if err != nil {
				t.Fatal(err)
			}
			raw := documentWith(t, chain)
			if c.want == "" {
				accepts(t, e.verifier(t), e.attest(t), expectNonce)
			} else {
				rejects(t, e.verifier(t), raw, expectNonce, c.want)
			}
		})
	}
}

// documentWith puts a chain into a document that another NSM signed. A leaf
// that can't sign ES384 must be refused before the signature is looked at.
func documentWith(t *testing.T, chain nsmtest.Chain) []byte {
	t.Helper()
	e := newEnclave(t, nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
		d.Certificate, d.CABundle = chain.Certificate, chain.CABundle
	}})
	return e.attest(t)
}

// A chain whose links fit by name but whose signatures are another's.
func TestForgedLink(t *testing.T) {
	victim := newEnclave(t, nsmtest.Options{})
	attacker := newEnclave(t, nsmtest.Options{})
	real, err := victim.Chain()
	if err != nil {
		t.Fatal(err)
	}
	fake, err := attacker.Chain()
	if err != nil {
		t.Fatal(err)
	}
	// The attacker's own chain under the victim's root.
	attacker.policy.Roots = victim.policy.Roots
	forged := newEnclave(t, nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
		d.CABundle = append([][]byte{real.CABundle[0]}, fake.CABundle[1:]...)
		d.Certificate = fake.Certificate
	}})
	doc, err := victim.verifier(t).Verify(forged.attest(t), expectNonce)
	if err == nil || doc != nil {
		t.Fatal("a chain of an attacker's own was accepted under the victim's root")
	}
	// The victim's whole chain, but signed with another key.
	stolen := newEnclave(t, nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
		d.CABundle, d.Certificate = real.CABundle, real.Certificate
	}})
	rejects(t, victim.verifier(t), stolen.attest(t), expectNonce, attestation.ReasonSignature)
}

func TestDebugMode(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{Debug: true})
	raw := e.attest(t)
	rejects(t, e.verifier(t), raw, expectNonce, attestation.ReasonDebugMode)
	e.policy.Measurements, e.policy.UnsafeAnyMeasurement = nil, true
	rejects(t, e.verifier(t), raw, expectNonce, attestation.ReasonDebugMode)
	e.policy.UnsafeAllowDebug = true
	if doc := accepts(t, e.verifier(t), raw, expectNonce); !doc.Debug() {
		t.Error("the document doesn't say that it is of a debug enclave")
	}
}

func TestNonce(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	for _, c := range []struct {
		name string
		sent []byte
	}{
		{"absent", nil},
		{"empty", []byte{}},
		{"prefix", nonce[:len(nonce)-1]},
		{"longer", append(bytes.Clone(nonce), 0)},
		{"another", bytes.Repeat([]byte{7}, len(nonce))},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := e.attestWith(t, nsm.AttestationRequest{Nonce: c.sent})
			rejects(t, v, raw, expectNonce, attestation.ReasonNonce)
			if accepts(t, v, raw, attestation.Expect{UnsafeAnyNonce: true}).Checked.Nonce {
				t.Error("a nonce that wasn't compared is said to be checked")
			}
		})
	}
}

func TestBindings(t *testing.T) {
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	raw := e.attestWith(t, nsm.AttestationRequest{Nonce: nonce, PublicKey: []byte("key")})
	accepts(t, v, raw, attestation.Expect{Nonce: nonce, PublicKey: []byte("key"), UserData: []byte{}})
	rejects(t, v, raw, attestation.Expect{Nonce: nonce, PublicKey: []byte("ke")}, attestation.ReasonPublicKey)
	rejects(t, v, raw, attestation.Expect{Nonce: nonce, PublicKey: []byte{}}, attestation.ReasonPublicKey)
	rejects(t, v, raw, attestation.Expect{Nonce: nonce, UserData: []byte("data")}, attestation.ReasonUserData)
}
