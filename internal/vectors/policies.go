package vectors

import (
	"bytes"
	"crypto"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// policies shows genuine documents to verifiers with other demands.
func (l *lab) policies() File {
	f := l.newFile("policy", "Genuine documents before verifiers that demand this or that.")
	l.measurements(f)
	l.debugMode(f)
	l.nonces(f)
	l.bindings(f)
	l.ages(f)
	l.platforms(f)
	l.revoked(f)
	l.invalidPolicies(f)
	l.invalidExpectations(f)
	return *f
}

var zeroPCR, otherPCR = attestation.PCR{}.String(), attestation.PCR{1}.String()

func accepting(measurements ...Measurement) change {
	return func(v *Vector) { v.Policy.Measurements = measurements }
}

func anyMeasurement(v *Vector) { v.Policy.Measurements, v.Policy.UnsafeAnyMeasurement = nil, true }

func allowDebug(v *Vector) { v.Policy.UnsafeAllowDebug = true }

func (l *lab) measurements(f *File) {
	old, good := measurementOf("old", []byte("an older image")), release()
	pcr4 := attestation.PCR(l.enclave.PCR(4)).String()
	partial := func(m Measurement) Measurement { m.UnsafePartial = true; return m }
	const wrong = attestation.ReasonMeasurement

	f.accept("measurement", "The PCRs 0, 1 and 2 are those that the policy accepts.", l.raw)
	f.accept("measurement-second", "The second of two measurements matches.", l.raw, accepting(old, good))
	f.accept("measurement-pcr4", "PCR4 is demanded as well.", l.raw, accepting(good.with(4, pcr4)))
	f.accept("measurement-pcr8-zero", "PCR8 is demanded to be zero: the image isn't signed.", l.raw, accepting(good.with(8, zeroPCR)))
	f.accept("measurement-partial", "PCR0 alone, which the policy must allow expressly.", l.raw, accepting(partial(good.only(0))))
	f.accept("measurement-any", "The policy accepts any.", l.raw, anyMeasurement)
	f.accept("measurement-upper-case", "The policy writes PCRs in upper case.", l.raw, accepting(good.with(0, strings.ToUpper(good.PCRs[0]))))

	f.reject(wrong, "measurement-another", "The policy accepts another image.", l.raw, accepting(old))
	for _, index := range []int{0, 1, 2} {
		name := []string{"pcr0", "pcr1", "pcr2"}[index]
		f.reject(wrong, "measurement-another-"+name, "All but "+strings.ToUpper(name)+" match.", l.raw, accepting(good.with(index, otherPCR)))
	}
	f.reject(wrong, "measurement-another-pcr4", "The enclave runs on another instance.", l.raw, accepting(good.with(4, otherPCR)))
	f.reject(wrong, "measurement-mixed", "PCR0 of one accepted measurement, PCR1 and PCR2 of the other.", l.raw, accepting(good.with(0, old.PCRs[0]), old.with(0, good.PCRs[0])))
	f.reject(wrong, "measurement-pcr-absent", "PCR31 isn't in the document, and absent isn't zero.", l.raw, accepting(good.with(31, zeroPCR)))
	f.reject(wrong, "measurement-pcr2-absent", "PCR2 isn't in the document.", l.signed(l.base.set("pcrs", l.pcrs(0, 1)).encode()))
}

func (l *lab) debugMode(f *File) {
	debug := l.attestOf(nsmtest.Options{Image: image, Debug: true})
	const wrong = attestation.ReasonDebugMode
	f.reject(wrong, "debug-mode", "PCR0, 1 and 2 are zero.", debug)
	f.reject(wrong, "debug-mode-any-measurement", "The same where any measurement is accepted.", debug, anyMeasurement)
	absent := l.signed(l.base.set("pcrs", l.pcrs(3, 4, 8)).encode())
	f.reject(wrong, "debug-mode-pcrs-absent", "PCR0, 1 and 2 are absent.", absent, anyMeasurement)
	f.accept("debug-mode-allowed", "Debug mode where it and any measurement are allowed.", debug, anyMeasurement, allowDebug)
	f.reject(attestation.ReasonMeasurement, "debug-mode-allowed-not-matching", "Debug mode is allowed; the measurement doesn't match all the same.", debug, allowDebug)
	f.accept("debug-mode-zero-measurement", "Debug mode is allowed and zero PCRs are an accepted measurement.", debug, allowDebug, accepting(Measurement{Name: "debug", PCRs: map[int]string{0: zeroPCR, 1: zeroPCR, 2: zeroPCR}}))
	f.accept("production-where-debug-is-allowed", "An enclave in production where debug mode is allowed.", l.raw, allowDebug)
}

func anyNonce(v *Vector) { v.Expect.Nonce, v.Expect.UnsafeAnyNonce = nil, true }

func (l *lab) nonces(f *File) {
	sent := func(nonce []byte) []byte { return l.attest(l.enclave, nsm.AttestationRequest{Nonce: nonce}) }
	const wrong = attestation.ReasonNonce
	f.reject(wrong, "nonce-absent", "The nonce's field is absent.", l.signed(l.base.drop("nonce").encode()))
	f.reject(wrong, "nonce-null", "The nonce is null.", sent(nil))
	f.reject(wrong, "nonce-empty", "The nonce is empty.", sent([]byte{}))
	f.reject(wrong, "nonce-prefix", "The nonce lacks its last byte.", sent(nonce[:len(nonce)-1]))
	f.reject(wrong, "nonce-longer", "The nonce has a byte more.", sent(join(nonce, []byte{0})))
	f.reject(wrong, "nonce-another", "The nonce is another of the same length.", sent(bytes.Repeat([]byte{7}, len(nonce))))
	f.reject(wrong, "nonce-in-user-data", "The expected nonce stands in user_data.", l.attest(l.enclave, nsm.AttestationRequest{UserData: nonce}))
	f.accept("nonce-any", "The verifier demands no nonce, and there is none.", sent(nil), anyNonce)
	f.accept("nonce-any-present", "The verifier demands no nonce, and there is one.", l.raw, anyNonce)
}

func (l *lab) bindings(f *File) {
	data, key := []byte("user data"), []byte("a public key")
	bound := l.attest(l.enclave, nsm.AttestationRequest{Nonce: nonce, UserData: data, PublicKey: key})
	expecting := func(userData, publicKey []byte) change {
		return func(v *Vector) { v.Expect.UserData, v.Expect.PublicKey = userData, publicKey }
	}
	const userData, publicKey = attestation.ReasonUserData, attestation.ReasonPublicKey
	f.accept("bindings", "user_data and public_key are the expected ones.", bound, expecting(data, key))
	f.accept("bindings-left-open", "The verifier compares neither.", bound)
	f.accept("bindings-expected-empty", "Both are expected to be empty, and null.", l.raw, expecting([]byte{}, []byte{}))
	f.reject(userData, "user-data-another", "user_data is another.", bound, expecting([]byte("user DATA"), nil))
	f.reject(userData, "user-data-prefix", "user_data is longer than expected.", bound, expecting(data[:4], nil))
	f.reject(userData, "user-data-absent", "user_data is null.", l.raw, expecting(data, nil))
	f.reject(userData, "user-data-unexpected", "user_data is expected to be empty.", bound, expecting([]byte{}, nil))
	f.reject(publicKey, "public-key-another", "public_key is another.", bound, expecting(nil, []byte("a public KEY")))
	f.reject(publicKey, "public-key-prefix", "public_key is longer than expected.", bound, expecting(nil, key[:4]))
	f.reject(publicKey, "public-key-absent", "public_key is null.", l.raw, expecting(nil, key))
	f.reject(publicKey, "public-key-unexpected", "public_key is expected to be empty.", bound, expecting(nil, []byte{}))
}

func (l *lab) ages(f *File) {
	clock := func(after time.Duration) change { return func(v *Vector) { v.Time = noon.Add(after) } }
	maxAge := func(age time.Duration) change { return func(v *Vector) { v.Policy.MaxAgeMillis = age.Milliseconds() } }
	maxSkew := func(skew time.Duration) change {
		return func(v *Vector) { v.Policy.MaxSkewMillis = skew.Milliseconds() }
	}
	at := func(after time.Duration) change { return func(v *Vector) { v.Expect.At = noon.Add(after) } }
	const (
		tooOld, future   = attestation.ReasonTooOld, attestation.ReasonFromFuture
		expired, notYet  = attestation.ReasonCertificateExpired, attestation.ReasonCertificateNotYetValid
		age, skew, years = attestation.DefaultMaxAge, attestation.DefaultMaxSkew, 5 * 365 * 24 * time.Hour
	)
	f.accept("age-5-minutes", "As old as the policy allows by default.", l.raw, clock(age))
	f.reject(tooOld, "age-5-minutes-1-ms", "A millisecond older.", l.raw, clock(age+time.Millisecond))
	f.accept("age-2-hours-allowed", "Two hours old, which this policy allows.", l.raw, clock(2*time.Hour), maxAge(3*time.Hour))
	f.reject(tooOld, "age-over-a-shorter-limit", "Two seconds old, where one is allowed.", l.raw, clock(2*time.Second), maxAge(time.Second))
	f.reject(expired, "age-over-the-certificate", "The policy allows a day; the leaf certificate ended a second ago.", l.raw, clock(3*time.Hour+time.Second), maxAge(24*time.Hour))
	f.reject(expired, "age-of-years", "Five years old.", l.raw, clock(years))
	f.accept("future-1-minute", "Dated after the verifier's clock by as much as the policy allows by default.", l.raw, clock(-skew))
	f.reject(future, "future-1-minute-1-ms", "A millisecond more.", l.raw, clock(-skew-time.Millisecond))
	f.reject(future, "future-over-a-shorter-limit", "Two seconds ahead, where one is allowed.", l.raw, clock(-2*time.Second), maxSkew(time.Second))
	f.accept("future-10-minutes-allowed", "Ten minutes ahead, where as much is allowed, also to the start of certificates.", l.raw, clock(-10*time.Minute), maxSkew(10*time.Minute))
	f.reject(notYet, "future-before-the-certificate", "A day ahead, before the leaf certificate.", l.raw, clock(-24*time.Hour))
	dated := func(after time.Duration) []byte {
		return l.signed(l.base.set("timestamp", cborUint(uint64(noon.Add(after).UnixMilli()))).encode())
	}
	f.reject(future, "timestamp-ahead", "The clock is right; the document is dated an hour ahead.", dated(time.Hour))
	f.reject(tooOld, "timestamp-behind", "The clock is right; the document is dated an hour back.", dated(-time.Hour))
	f.accept("historical", "Judged years later as of the time of the document.", l.raw, clock(years), at(0))
	f.accept("historical-5-minutes", "Judged as of five minutes later.", l.raw, clock(years), at(age))
	f.reject(tooOld, "historical-too-old", "Judged as of a millisecond after these five minutes.", l.raw, clock(years), at(age+time.Millisecond))
	f.reject(future, "historical-no-skew", "Judged as of a millisecond before the document: no skew is allowed to a time that was chosen.", l.raw, at(-time.Millisecond))
	f.reject(expired, "historical-expired", "Judged as of a time after the leaf certificate.", l.raw, at(4*time.Hour))
}

func (l *lab) platforms(f *File) {
	onTPM := func(v *Vector) { v.Policy.Platform = attestation.PlatformNitroTPM.String() }
	pcrs := map[int][]byte{}
	for i := range 24 {
		pcrs[i] = bytes.Repeat([]byte{byte(i)}, attestation.PCRSize)
	}
	document := l.signed(l.base.drop("pcrs").add("nitrotpm_pcrs", pcrMap(pcrs)).
		set("module_id", cborText("i-0123456789abcdef0-tpm0123456789abcdef")).encode())
	hex := func(index int) string { return attestation.PCR(pcrs[index]).String() }
	machine := Measurement{Name: "machine image", PCRs: map[int]string{4: hex(4), 7: hex(7), 12: hex(12)}}
	const wrong = attestation.ReasonPlatform
	f.accept("nitrotpm", "A NitroTPM document with 24 PCRs, of which 4, 7 and 12 are compared.", document, onTPM, accepting(machine))
	f.accept("nitrotpm-pcr12-zero", "PCR12 of a NitroTPM may be demanded to be zero.", l.signed(l.base.drop("pcrs").add("nitrotpm_pcrs", pcrMap(map[int][]byte{4: pcrs[4], 7: pcrs[7], 12: make([]byte, 48)})).encode()),
		onTPM, accepting(machine.with(12, zeroPCR)))
	f.reject(attestation.ReasonMeasurement, "nitrotpm-another-pcr7", "PCR7 of a NitroTPM is another.", document, onTPM, accepting(machine.with(7, otherPCR)))
	f.reject(wrong, "nitrotpm-for-an-enclave", "A NitroTPM document where an enclave's is demanded.", document, anyMeasurement)
	f.reject(wrong, "nitrotpm-for-an-enclave-with-its-pcrs", "The same with an accepted enclave's PCRs: anyone with a NitroTPM can extend them.", l.signed(l.base.rename("pcrs", "nitrotpm_pcrs").encode()))
	f.reject(wrong, "enclave-for-a-nitrotpm", "An enclave's document where a NitroTPM's is demanded.", l.raw, onTPM, anyMeasurement)
}

func (l *lab) revoked(f *File) {
	for _, level := range belowRoot {
		name := level.String()
		f.reject(attestation.ReasonCertificateRevoked, "revoked-"+name, "The "+name+" certificate's serial number is revoked.", l.raw,
			func(v *Vector) { v.Policy.RevokedSerials = []string{l.template(level).serial.Text(16)} })
	}
	f.accept("revoked-another", "Another certificate is revoked.", l.raw, func(v *Vector) { v.Policy.RevokedSerials = []string{"1"} })
	f.accept("revoked-root", "Whether the root is trusted is for the roots to say: its serial number isn't looked up.", l.raw,
		func(v *Vector) { v.Policy.RevokedSerials = []string{l.pki.Root().SerialNumber.Text(16)} })
}

func (l *lab) invalidPolicies(f *File) {
	bad := func(name, comment string, changes ...change) {
		f.reject(attestation.ReasonInvalidPolicy, "policy-"+name, comment, l.raw, changes...)
	}
	good := release()
	bad("empty", "A policy that says nothing.", accepting())
	bad("measurement-empty", "A measurement without PCRs, which every enclave would match.", accepting(Measurement{Name: "empty", UnsafePartial: true}))
	bad("second-measurement-empty", "The second measurement has no PCRs.", accepting(good, Measurement{Name: "empty"}))
	bad("pcr0-alone", "PCR0 without PCR1 and PCR2: it hashes their parts as one string, so that bytes can move between them.", accepting(good.only(0)))
	bad("pcr-zero", "PCR1 is expected to be zero, as in debug mode.", accepting(good.with(1, zeroPCR)))
	bad("pcr8-zero-alone", "Only PCR8, and zero: every enclave of an unsigned image has that.", accepting(Measurement{PCRs: map[int]string{8: zeroPCR}, UnsafePartial: true}))
	bad("pcr8-zero-beside-pcr3", "PCR3 and a zero PCR8: the role says nothing about the image.", accepting(Measurement{PCRs: map[int]string{3: otherPCR, 8: zeroPCR}, UnsafePartial: true}))
	onTPM := func(v *Vector) { v.Policy.Platform = attestation.PlatformNitroTPM.String() }
	bad("nitrotpm-pcr7-zero", "PCR7 of a NitroTPM is expected to be zero, as in no booted instance.", onTPM, accepting(Measurement{PCRs: map[int]string{4: otherPCR, 7: zeroPCR, 12: zeroPCR}}))
	bad("nitrotpm-pcr12-zero-alone", "Only PCR12 of a NitroTPM, and zero: many instances have that.", onTPM, accepting(Measurement{PCRs: map[int]string{12: zeroPCR}, UnsafePartial: true}))
	bad("pcr-index-32", "A measurement of PCR32.", accepting(good.with(32, otherPCR)))
	bad("pcr-index-negative", "A measurement of PCR-1.", accepting(good.with(-1, otherPCR)))
	bad("pcr-of-32-bytes", "A PCR of 32 bytes.", accepting(good.with(0, otherPCR[:64])))
	bad("pcr-not-hexadecimal", "A PCR that isn't hexadecimal.", accepting(good.with(0, strings.Repeat("g", 96))))
	bad("any-and-some", "Any measurement and this one.", func(v *Vector) { v.Policy.UnsafeAnyMeasurement = true })
	bad("enclave-pcrs-for-a-nitrotpm", "PCR0, 1 and 2 for a NitroTPM.", onTPM)
	bad("no-such-platform", "A platform that doesn't exist.", func(v *Vector) { v.Policy.Platform = "abacus" })
	bad("negative-age", "A negative age.", func(v *Vector) { v.Policy.MaxAgeMillis = -1 })
	bad("negative-skew", "A negative skew.", func(v *Vector) { v.Policy.MaxSkewMillis = -1 })
	bad("no-roots", "No root is trusted.", func(v *Vector) { v.Policy.Roots = [][]byte{} })
	bad("leaf-as-root", "The leaf certificate is to be a trusted root.", func(v *Vector) { v.Policy.Roots = [][]byte{l.path.certificates[leaf]} })
	bad("root-not-self-signed", "The instance certificate is to be a trusted root.", func(v *Vector) { v.Policy.Roots = [][]byte{l.path.certificates[instance]} })
	bad("root-not-a-ca", "A root that may not sign certificates.", trust(l.reissue(root, func(c *certificate) { c.setExtension(oidKeyUsage, true, usageSignDocuments) })))
	bad("root-of-sha256", "A root that is signed with SHA-256.", trust(l.reissue(root, func(c *certificate) { c.hash = crypto.SHA256 })))
}

func (l *lab) invalidExpectations(f *File) {
	bad := func(name, comment string, expect Expect) {
		f.reject(attestation.ReasonInvalidExpectation, "expect-"+name, comment, l.raw, func(v *Vector) { v.Expect = expect })
	}
	long := make([]byte, attestation.MaxFieldSize+1)
	bad("nothing", "Neither a nonce nor any.", Expect{})
	bad("empty-nonce", "An empty nonce, which every document without one would match.", Expect{Nonce: []byte{}})
	bad("nonce-and-any", "A nonce and any.", Expect{Nonce: nonce, UnsafeAnyNonce: true})
	bad("long-nonce", "A nonce that is longer than any in a document.", Expect{Nonce: long})
	bad("long-user-data", "User data that is longer than any.", Expect{Nonce: nonce, UserData: long})
	bad("long-public-key", "A public key that is longer than any.", Expect{Nonce: nonce, PublicKey: long})
}
