// Package nsmtest is a Nitro Secure Module in software, for tests of code that
// uses the package nsm or verifies attestation documents, as net/http/httptest
// is for HTTP. It must not be part of a production program: whoever holds its
// keys can attest anything.
//
// # A software NSM
//
// [New] returns an [NSM], a device for nsm.NewSession. Its documents are signed
// under a root of its own, which a verifier under test has to trust in place of
// AWS's:
//
//	module, err := nsmtest.New(nsmtest.Options{Image: image})
//	session := nsm.NewSession(module)
//	roots := []*x509.Certificate{module.Root()}
//
// [Measure] tells the PCRs 0 to 2 that an image gets. With [Options] the NSM
// stands for another enclave; with EditDocument, [PKIOptions], [NSM.SignPayload]
// and [NSM.Chain] it makes documents and chains that AWS never would, to see
// whether a verifier refuses them.
//
// Requests and responses are the CBOR that hardware takes and gives, with its
// rules: 32 PCRs, of which 0 to 15 are locked at boot; PCR' = SHA384(PCR ‖
// data); a document lists locked PCRs only; fields of at most 1024 bytes. The
// certificates copy the names, validity times and extensions of real ones, and
// are renewed as the clock goes on.
//
// Where AWS says nothing, the answers are those that a Linux kernel got from QEMU's
// emulated NSM, on both machines that have it. internal/e2e records them, into
// nsm/testdata/recorded, and a test sends each recorded request and compares the
// answers: malformed CBOR, an index over 255 or written in more than two bytes, and
// more than one request are InvalidOperation; an index of 32 to 255 is InvalidIndex,
// and so is locking more than 32 PCRs; bytes after the request and unknown fields
// are ignored; a text string will do for a byte string. Hardware may differ. That a
// field of 1025 bytes is InputTooLarge is an assumption from the name of that error.
//
// What differs from QEMU's emulation, where AWS's own code and the documents of
// real enclaves say otherwise:
//
//   - QEMU's documents are unsigned, with zeros for certificates and whole
//     seconds for time, and their header names no ES384.
//   - QEMU does not limit fields; here one over 1024 bytes is InputTooLarge.
//   - QEMU sorts the fields of its answers, the shorter names first: here they
//     have the order of AWS's structs, lock before data.
//   - QEMU's payload is a map of definite length, as hardware's was until May
//     2025 (see Options.LegacyShape).
//   - On QEMU's q35 machine the PCRs 0 to 15 are zero and open; here, as on
//     hardware, they are locked and all in every document.
//   - A field given twice is InvalidOperation; QEMU takes the last.
//
// What differs from hardware, beside what nobody has recorded: documents are signed
// under another root; PCR values of an image are made up by [Measure]; nothing takes
// time, and no request fails by chance.
//
// A request of no bytes blocks a real driver for minutes. Here it is refused,
// like an over-long one (EMSGSIZE).
//
// # Recording and replaying
//
// A [Recorder] writes down what passes between a session and any device,
// hardware included. A [Recording] replays it anywhere, to a program that sends
// the same bytes in the same order. A program that makes a nonce or a key at run
// time does not, a client of package kmsclient among them: for those use a software
// NSM. Judge a recorded document with a verifier whose clock is set to the time
// of its exchange. The file is JSON:
//
//	{
//	  "format": "keyvouch-nsm-recording/2",
//	  "comment": "…",                       optional
//	  "started": "2026-11-23T12:00:00Z",    RFC 3339
//	  "root": "3082…",                      optional, DER of the certificate that vouches for the documents
//	  "exchanges": [
//	    {
//	      "comment": "…",                   optional
//	      "at": "2026-11-23T12:00:00Z",
//	      "request": "6b446573…",           CBOR
//	      "response": "a16b4465…"           CBOR
//	    },
//	    {
//	      "at": "2026-11-23T12:00:00Z",
//	      "request": "6b446573…",
//	      "error": "nsm: Send: …",          in place of a response: the text of the device's error
//	      "failure": {                      optional, what a program tells the error by
//	        "op": "Send",                   the fields of the *nsm.Error in the error's chain,
//	        "reason": "interrupted",        all absent if there was none
//	        "code": "…",
//	        "detail": "…",
//	        "cause": "…",                   the text of what it wraps
//	        "is": ["EINTR"]                 what errors.Is finds; see Failure for the names
//	      }
//	    }
//	  ]
//	}
//
// Bytes are hexadecimal. A reader refuses unknown fields and names, another
// format, files over [MaxRecordingSize] and more than [MaxExchanges] exchanges.
// It also takes version 1 of the format, which is without failures: of an error
// only the text is left, so a session that retried an interrupted request fails
// when it is replayed. Errors that "is" has no name for keep only their text in
// version 2, too.
//
// No private key is ever in a recording, but the answers to GetRandom are:
// treat what was derived from them as public.
package nsmtest
