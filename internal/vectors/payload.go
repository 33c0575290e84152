package vectors

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// payload has the enclave's own key sign payloads that no NSM writes.
func (l *lab) payload() File {
	f := l.newFile("payload", "The attestation document inside as a whole, rightly signed in every vector: shapes that NSMs have written and ones that none does.")
	l.shapes(f)
	l.payloadMap(f)
	l.unknownFields(f)
	return *f
}

// fieldValues has it sign payloads with a field that no NSM writes.
func (l *lab) fieldValues() File {
	f := l.newFile("fields", "The fields of the attestation document one by one, rightly signed in every vector.")
	l.scalars(f)
	l.pcrFields(f)
	l.certificateFields(f)
	l.optionalFields(f)
	return *f
}

// shapes are payloads that must be accepted.
func (l *lab) shapes(f *File) {
	good := func(name, comment string, payload []byte, changes ...change) {
		f.accept(name, comment, l.signed(payload), changes...)
	}
	b := l.base
	good("indefinite-map", "The payload's map of indefinite length, as NSMs write it since June 2025.", b.encode())
	good("definite-map", "Of definite length, as they did before.", b.encodeDefinite())
	f.accept("definite-map-of-the-nsm", "The same from the software NSM's own encoder.", l.attestOf(nsmtest.Options{Image: image, LegacyShape: true}))
	good("optionals-absent", "public_key and user_data are absent, as AWS's text allows.", b.drop("public_key", "user_data").encode())
	good("optionals-null", "They are null, as NSMs write them.", b.set("public_key", cborNull).set("user_data", cborNull).encode())
	good("optionals-empty", "They are empty byte strings.", b.set("public_key", cborBytes(nil)).set("user_data", cborBytes(nil)).encode())
	long := bytes.Repeat([]byte{0xa5}, attestation.MaxFieldSize)
	good("fields-of-1024-bytes", "public_key, user_data and nonce of 1024 bytes each.",
		b.set("public_key", cborBytes(long)).set("user_data", cborBytes(long)).set("nonce", cborBytes(long)).encode(),
		func(v *Vector) { v.Expect.Nonce = long })
	good("public-key-opaque", "public_key is 32 bytes and no DER: only who asks for a key may parse it.", b.set("public_key", cborBytes(long[:32])).encode())
	good("module-id-of-256-bytes", "The longest module_id that this library allows.", b.set("module_id", cborText(strings.Repeat("i", attestation.MaxModuleIDSize))).encode())
	reversed := slices.Clone(b)
	slices.Reverse(reversed)
	good("reverse-order", "The fields in reverse order.", reversed.encode())
	good("nonce-first", "The nonce before all others.", append(fields{{"nonce", b.get("nonce")}}, b.drop("nonce")...).encode())
	good("unknown-field", "One field that isn't known, a map with an array in it.", b.add("later", cborMap(cborText("a"), cborArray(cborUint(1), cborNull))).encode())
	good("unknown-fields-8", "As many unknown fields as this library tolerates.", manyUnknown(b, attestation.MaxUnknownFields).encode())
	unpadded := len(b.add("filler", join(head(majorBytes, 10000), nil)).encode())
	good("payload-of-16384-bytes", "The largest payload there is; an unknown field fills it.", b.add("filler", cborBytes(make([]byte, attestation.MaxPayloadSize-unpadded))).encode())

	good("pcrs-sparse", "The PCRs 0, 1, 2, 3, 4 and 8 only.", b.set("pcrs", l.pcrs(0, 1, 2, 3, 4, 8)).encode())
	good("pcrs-17", "PCR16 beside the usual sixteen.", b.set("pcrs", l.pcrs(upTo(17)...)).encode())
	good("pcrs-24", "24 PCRs.", b.set("pcrs", l.pcrs(upTo(24)...)).encode())
	good("pcrs-32", "All 32 PCRs.", b.set("pcrs", l.pcrs(upTo(32)...)).encode())
	descending := upTo(16)
	slices.Reverse(descending)
	good("pcrs-in-descending-order", "The PCRs from 15 down to 0.", b.set("pcrs", l.pcrs(descending...)).encode())
}

func upTo(n int) []int {
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return indices
}

// pcrs is the enclave's PCR map with these indices in this order.
func (l *lab) pcrs(indices ...int) []byte {
	var pairs [][]byte
	for _, i := range indices {
		value := l.enclave.PCR(i)
		pairs = append(pairs, cborUint(uint64(i)), cborBytes(value[:]))
	}
	return cborMap(pairs...)
}

func manyUnknown(f fields, n int) fields {
	for i := range n {
		f = f.add(fmt.Sprint("x", i), cborZero)
	}
	return f
}

// payloadMap spoils the map.
func (l *lab) payloadMap(f *File) {
	bad := func(reason attestation.Reason, name, comment string, payload []byte) {
		f.reject(reason, name, comment, l.signed(payload))
	}
	b, whole, definite := l.base, l.base.encode(), l.base.encodeDefinite()
	const malformed = attestation.ReasonMalformedCBOR
	bad(attestation.ReasonFieldType, "payload-is-array", "An empty array.", cborArray())
	bad(attestation.ReasonFieldType, "payload-is-null", "A null.", cborNull)
	bad(attestation.ReasonFieldType, "payload-tagged", "A tag around the map.", tag(55799, whole))
	bad(attestation.ReasonFieldMissing, "payload-is-empty-map", "A map without entries.", cborMap())
	bad(attestation.ReasonTrailingBytes, "trailing-byte-in-payload", "A byte after the map.", join(whole, []byte{0}))
	bad(attestation.ReasonTrailingBytes, "second-map-in-payload", "A second map after the map.", join(whole, whole))
	bad(malformed, "no-break", "The map of indefinite length doesn't end.", whole[:len(whole)-1])
	bad(malformed, "count-too-large", "The map claims one entry more than it has.", join(head(majorMap, 10), b.entries()))
	bad(attestation.ReasonTrailingBytes, "count-too-small", "The map claims one entry fewer.", join(head(majorMap, 8), b.entries()))
	bad(attestation.ReasonFieldUnknown, "count-absurd", "The map claims 2^64-1 entries.", head(majorMap, 1<<64-1))
	bad(malformed, "count-not-shortest", "The map's count in eight bytes.", join(longHead(majorMap, 9), definite[1:]))
	bad(malformed, "break-in-place-of-value", "A break where the value of a field should be.", join(openMap, b.entries(), cborText("later"), cborBreak))
	bad(attestation.ReasonFieldType, "key-of-bytes", "A key is a byte string.", join(openMap, b.entries(), cborBytes([]byte("later")), cborZero, cborBreak))
	bad(attestation.ReasonFieldType, "key-is-integer", "A key is an integer.", join(openMap, b.entries(), cborUint(1), cborZero, cborBreak))
	bad(attestation.ReasonFieldSize, "key-empty", "A key is the empty text.", b.add("", cborZero).encode())
	bad(attestation.ReasonFieldSize, "key-of-65-bytes", "A key is longer than this library allows.", b.add(strings.Repeat("k", 65), cborZero).encode())
	bad(malformed, "key-not-utf-8", "A key isn't UTF-8.", b.add("\xff", cborZero).encode())
	bad(malformed, "key-length-not-shortest", "A key's length in a second byte.", join(openMap, b.entries(), []byte{majorText | 24, 5}, []byte("later"), cborZero, cborBreak))

	bad(attestation.ReasonFieldDuplicate, "module-id-twice", "module_id occurs twice, with the same value.", b.add("module_id", b.get("module_id")).encode())
	bad(attestation.ReasonFieldDuplicate, "pcrs-twice", "pcrs occurs twice, zero the first time.", append(fields{{"pcrs", cborMap(cborZero, cborBytes(make([]byte, 48)))}}, b...).encode())
	bad(attestation.ReasonFieldDuplicate, "nonce-twice", "The nonce occurs twice, null the second time.", b.add("nonce", cborNull).encode())
	bad(attestation.ReasonFieldUnknown, "pcrs-in-capitals-beside", "PCRS beside pcrs: a decoder that folds case would take either.", b.add("PCRS", b.get("pcrs")).encode())
	bad(attestation.ReasonFieldUnknown, "pcrs-in-capitals", "Pcrs in place of pcrs.", b.rename("pcrs", "Pcrs").encode())
	bad(attestation.ReasonFieldUnknown, "nonce-in-capitals-beside", "Nonce beside nonce.", b.add("Nonce", cborBytes(nonce)).encode())
}

// unknownFields abuses the tolerance for fields to come.
func (l *lab) unknownFields(f *File) {
	b := l.base
	bad := func(reason attestation.Reason, name, comment string, fields fields) {
		f.reject(reason, name, comment, l.signed(fields.encode()))
	}
	later := func(value ...[]byte) fields { return b.add("later", join(value...)) }
	const malformed, fieldType = attestation.ReasonMalformedCBOR, attestation.ReasonFieldType
	bad(attestation.ReasonFieldUnknown, "unknown-fields-9", "One unknown field more than this library tolerates.", manyUnknown(b, attestation.MaxUnknownFields+1))
	bad(attestation.ReasonFieldUnknown, "unknown-fields-1500", "A bomb of elements.", manyUnknown(b, 1500))
	bad(attestation.ReasonFieldDuplicate, "unknown-field-twice", "An unknown field occurs twice.", later(cborZero).add("later", cborZero))
	bad(attestation.ReasonFieldDuplicate, "unknown-field-twice-but-for-case", "Twice but for its case.", later(cborZero).add("LATER", cborZero))
	twice := cborMap(cborText("a"), cborZero, cborText("a"), cborNull)
	bad(attestation.ReasonFieldDuplicate, "unknown-field-map-key-twice", "An unknown field is a map with a key twice.", later(twice))
	bad(attestation.ReasonFieldDuplicate, "unknown-field-inner-map-key-twice", "The same in an array in a map.", later(cborMap(cborText("b"), cborArray(twice))))
	bad(malformed, "unknown-field-text-not-utf-8", "An unknown field is a text that isn't UTF-8.", later(join(head(majorText, 1), []byte{0xff})))
	bad(malformed, "unknown-field-nests", "An unknown field nests 50 deep.", later(bytes.Repeat([]byte{majorArray | 1}, 50), cborZero))
	bad(malformed, "unknown-field-of-a-billion", "An array that claims 2^30 elements.", later(head(majorArray, 1<<30)))
	bad(malformed, "unknown-field-map-of-2-64", "A map that claims 2^64-1 entries.", later(head(majorMap, 1<<64-1)))
	bad(malformed, "unknown-field-bytes-of-2-64", "A byte string that claims 2^64-1 bytes.", later(head(majorBytes, 1<<64-1)))
	bad(fieldType, "unknown-field-tagged", "An unknown field has a tag.", later(tag(0, cborZero)))
	bad(fieldType, "unknown-field-undefined", "An unknown field is undefined.", later(cborUndefined))
	bad(malformed, "unknown-field-indefinite", "An unknown field of indefinite length.", later(openArray, cborBreak))
	bad(malformed, "unknown-field-float", "An unknown field is a float.", later(cborHalfFloat1))
	bad(malformed, "unknown-field-reserved", "An unknown field begins with a reserved byte.", later([]byte{0x1c}))
	bad(malformed, "unknown-field-integer-not-shortest", "An unknown field is 0 in nine bytes.", later(longHead(majorUint, 0)))
}

// scalars spoils module_id, digest and timestamp.
func (l *lab) scalars(f *File) {
	set := func(reason attestation.Reason, name, comment, field string, value ...[]byte) {
		f.reject(reason, name, comment, l.signed(l.base.set(field, join(value...)).encode()))
	}
	const malformed, fieldType = attestation.ReasonMalformedCBOR, attestation.ReasonFieldType
	for _, field := range []string{"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle"} {
		name := strings.ReplaceAll(field, "_", "-")
		f.reject(attestation.ReasonFieldMissing, name+"-absent", "The mandatory field "+field+" is absent.", l.signed(l.base.drop(field).encode()))
		set(attestation.ReasonFieldMissing, name+"-null", "The mandatory field "+field+" is null.", field, cborNull)
	}
	id := []byte("i-0123456789abcdef0-enc0123456789abcdef")
	set(attestation.ReasonFieldSize, "module-id-empty", "module_id is the empty text.", "module_id", cborText(""))
	set(attestation.ReasonFieldSize, "module-id-of-257-bytes", "module_id is longer than this library allows.", "module_id", cborText(strings.Repeat("i", 257)))
	set(fieldType, "module-id-of-bytes", "module_id is a byte string.", "module_id", cborBytes(id))
	set(fieldType, "module-id-tagged", "module_id has a tag.", "module_id", tag(32, cborText(string(id))))
	set(malformed, "module-id-not-utf-8", "module_id isn't UTF-8.", "module_id", cborText("i-\xff"))

	set(attestation.ReasonDigest, "digest-sha256", "The digest is SHA256.", "digest", cborText("SHA256"))
	set(attestation.ReasonDigest, "digest-sha512", "The digest is SHA512.", "digest", cborText("SHA512"))
	set(attestation.ReasonDigest, "digest-lower-case", "The digest in lower case.", "digest", cborText("sha384"))
	set(attestation.ReasonDigest, "digest-longer", "A zero byte after the digest's name.", "digest", cborText("SHA384\x00"))
	set(fieldType, "digest-of-bytes", "The digest's name is a byte string.", "digest", cborBytes([]byte("SHA384")))

	millis := uint64(noon.UnixMilli())
	set(attestation.ReasonTimestamp, "timestamp-zero", "The timestamp is 0.", "timestamp", cborZero)
	set(attestation.ReasonTimestamp, "timestamp-in-seconds", "The timestamp in seconds.", "timestamp", cborUint(millis/1000))
	set(attestation.ReasonTimestamp, "timestamp-in-microseconds", "The timestamp in microseconds.", "timestamp", cborUint(millis*1000))
	set(attestation.ReasonTimestamp, "timestamp-2-64", "The timestamp is 2^64-1.", "timestamp", cborUint(1<<64-1))
	set(fieldType, "timestamp-negative", "The timestamp is -1.", "timestamp", head(majorNegint, 0))
	set(fieldType, "timestamp-text", "The timestamp is text.", "timestamp", cborText("2026-03-14T12:00:00Z"))
	set(fieldType, "timestamp-tagged", "The timestamp under tag 1, epoch time.", "timestamp", tag(1, cborUint(millis)))
	set(fieldType, "timestamp-bignum", "The timestamp as a bignum.", "timestamp", tag(2, cborBytes(longHead(0, millis)[1:])))
	set(malformed, "timestamp-float", "The right timestamp as a float.", "timestamp", longHead(7<<5, math.Float64bits(float64(millis))))
	set(malformed, "timestamp-not-shortest", "A timestamp of four bytes in eight.", "timestamp", longHead(majorUint, 0x01020304))
}

// pcrFields spoils the PCRs.
func (l *lab) pcrFields(f *File) {
	set := func(reason attestation.Reason, name, comment string, value ...[]byte) {
		f.reject(reason, name, comment, l.signed(l.base.set("pcrs", join(value...)).encode()))
	}
	const wrong, malformed, fieldType = attestation.ReasonPCRs, attestation.ReasonMalformedCBOR, attestation.ReasonFieldType
	good := l.base.get("pcrs")
	value := cborBytes(bytes.Repeat([]byte{1}, 48))
	// and is the enclave's PCR map with one more entry, so that nothing else is
	// wrong.
	and := func(index, value []byte) []byte { return join(head(majorMap, 17), good[1:], index, value) }
	set(wrong, "pcrs-empty", "No PCRs.", cborMap())
	all := l.pcrs(upTo(32)...)
	set(wrong, "pcrs-33", "33 PCRs.", head(majorMap, 33), all[2:], cborUint(32), value)
	set(wrong, "pcrs-2-64", "The map claims 2^64-1 PCRs.", head(majorMap, 1<<64-1))
	set(fieldType, "pcrs-array", "The PCRs are an array of values.", cborArray(value, value, value))
	set(malformed, "pcrs-indefinite", "The PCRs are a map of indefinite length.", openMap, good[1:], cborBreak)
	set(wrong, "pcr-index-32", "A PCR of the index 32.", and(cborUint(32), value))
	set(wrong, "pcr-index-2-32", "A PCR of the index 2^32, which is 0 in 32 bits.", and(cborUint(1<<32), value))
	set(fieldType, "pcr-index-negative", "A PCR of the index -1.", and(head(majorNegint, 0), value))
	set(fieldType, "pcr-index-text", "A PCR whose index is the text 20.", and(cborText("20"), value))
	set(attestation.ReasonFieldDuplicate, "pcr-twice", "PCR0 occurs twice, last with the accepted value.", head(majorMap, 17), cborZero, value, good[1:])
	set(attestation.ReasonFieldDuplicate, "pcr-twice-last-wrong", "PCR0 occurs twice, first with the accepted value.", and(cborZero, value))
	set(malformed, "pcr-twice-in-two-encodings", "PCR0 occurs twice, once with a longer encoding of its index.", and([]byte{0x18, 0}, value))
	for _, size := range []int{0, 32, 47, 49, 64} {
		set(wrong, fmt.Sprintf("pcr-of-%d-bytes", size), fmt.Sprintf("PCR16 has %d bytes.", size), and(cborUint(16), cborBytes(make([]byte, size))))
	}
	set(fieldType, "pcr-text", "PCR16 is hexadecimal text.", and(cborUint(16), cborText(strings.Repeat("00", 48))))
	set(fieldType, "pcr-null", "PCR16 is null.", and(cborUint(16), cborNull))
	f.reject(wrong, "pcrs-and-nitrotpm-pcrs", "Both pcrs and nitrotpm_pcrs.", l.signed(l.base.add("nitrotpm_pcrs", good).encode()))
	f.reject(attestation.ReasonFieldDuplicate, "nitrotpm-pcrs-twice", "nitrotpm_pcrs twice.", l.signed(l.base.rename("pcrs", "nitrotpm_pcrs").add("nitrotpm_pcrs", good).encode()))
}

// certificateFields spoils certificate and cabundle as CBOR.
func (l *lab) certificateFields(f *File) {
	set := func(reason attestation.Reason, name, comment, field string, value ...[]byte) {
		f.reject(reason, name, comment, l.signed(l.base.set(field, join(value...)).encode()))
	}
	garbage := cborBytes([]byte("no DER"))
	root := cborBytes(l.path.certificates[0])
	set(attestation.ReasonFieldSize, "certificate-empty", "The certificate is empty.", "certificate", cborBytes(nil))
	set(attestation.ReasonFieldSize, "certificate-of-1025-zeros", "The certificate has 1025 bytes.", "certificate", cborBytes(make([]byte, 1025)))
	set(attestation.ReasonFieldType, "certificate-text", "The certificate is text.", "certificate", cborText("-----BEGIN CERTIFICATE-----"))
	set(attestation.ReasonFieldType, "certificate-array", "The certificate is an array of certificates.", "certificate", cborArray(l.base.get("certificate")))
	set(attestation.ReasonCertificateMalformed, "certificate-garbage", "The certificate is no DER.", "certificate", garbage)

	const count = attestation.ReasonCABundle
	set(count, "cabundle-empty", "The bundle is empty.", "cabundle", cborArray())
	set(count, "cabundle-of-7-bytes", "The bundle has seven entries, of one byte each.", "cabundle", bundle(slices.Repeat([][]byte{{0}}, 7)))
	set(count, "cabundle-2-64", "The bundle claims 2^64-1 entries.", "cabundle", head(majorArray, 1<<64-1))
	set(attestation.ReasonMalformedCBOR, "cabundle-indefinite", "The bundle is an array of indefinite length.", "cabundle", openArray, l.base.get("cabundle")[1:], cborBreak)
	set(attestation.ReasonFieldType, "cabundle-bytes", "The bundle is one byte string.", "cabundle", root)
	set(attestation.ReasonFieldType, "cabundle-null-entry", "An entry is null.", "cabundle", cborArray(cborNull))
	set(attestation.ReasonFieldType, "cabundle-text-entry", "An entry is text.", "cabundle", cborArray(cborText("root")))
	set(attestation.ReasonFieldSize, "cabundle-empty-entry", "An entry is empty.", "cabundle", cborArray(root, cborBytes(nil)))
	set(attestation.ReasonFieldSize, "cabundle-entry-of-1025-bytes", "An entry has 1025 bytes.", "cabundle", cborArray(root, cborBytes(make([]byte, 1025))))
	set(attestation.ReasonUntrustedRoot, "cabundle-garbage-root", "The first entry is no DER.", "cabundle", cborArray(garbage))
	set(attestation.ReasonCertificateMalformed, "cabundle-garbage-entry", "The second entry is no DER.", "cabundle", cborArray(root, garbage))
}

// optionalFields spoils public_key, user_data and nonce.
func (l *lab) optionalFields(f *File) {
	for _, field := range []string{"public_key", "user_data", "nonce"} {
		name := strings.ReplaceAll(field, "_", "-")
		set := func(reason attestation.Reason, suffix, comment string, value ...[]byte) {
			f.reject(reason, name+suffix, field+comment, l.signed(l.base.set(field, join(value...)).encode()))
		}
		set(attestation.ReasonFieldSize, "-of-1025-bytes", " has 1025 bytes.", cborBytes(make([]byte, 1025)))
		set(attestation.ReasonFieldType, "-text", " is text.", cborText(string(nonce)))
		set(attestation.ReasonFieldType, "-undefined", " is undefined, not null.", cborUndefined)
	}
	set := func(reason attestation.Reason, name, comment string, value ...[]byte) {
		f.reject(reason, name, comment, l.signed(l.base.set("nonce", join(value...)).encode()))
	}
	set(attestation.ReasonFieldType, "nonce-false", "nonce is false.", cborFalse)
	set(attestation.ReasonFieldType, "nonce-array", "nonce is an array.", cborArray(cborBytes(nonce)))
	set(attestation.ReasonFieldType, "nonce-tagged", "nonce has a tag.", tag(64, cborBytes(nonce)))
	set(attestation.ReasonMalformedCBOR, "nonce-in-chunks", "nonce is a byte string of indefinite length.", openBytes, cborBytes(nonce), cborBreak)
	set(attestation.ReasonMalformedCBOR, "nonce-length-not-shortest", "nonce has its length in eight bytes.", longHead(majorBytes, uint64(len(nonce))), nonce)
	set(attestation.ReasonFieldSize, "nonce-length-absurd", "nonce claims 2^64-1 bytes.", head(majorBytes, 1<<64-1))
}
