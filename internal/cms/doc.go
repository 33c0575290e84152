// Package cms opens the envelope in which AWS KMS sends a plaintext to a
// recipient: the CiphertextForRecipient of an answer to a request that carried
// an attestation document.
//
// The envelope is a CMS EnvelopedData (RFC 5652, section 6) of one fixed shape:
// one recipient named by a subjectKeyIdentifier, the content-encryption key
// under RSAES-OAEP with SHA-256 (RFC 8017, identifiers of RFC 4055), the
// content under AES-256-CBC with PKCS #7 padding (RFC 3565).
//
//	ContentInfo SEQUENCE                                 definite or indefinite
//	  id-envelopedData
//	  [0]                                                definite or indefinite
//	    EnvelopedData SEQUENCE                           definite or indefinite
//	      version 2
//	      recipientInfos SET, exactly one:
//	        KeyTransRecipientInfo SEQUENCE
//	          version 2
//	          subjectKeyIdentifier [0]  SHA-256 of the recipient's SPKI DER
//	          id-RSAES-OAEP { [0] sha256, [1] mgf1 { sha256 } }
//	          encryptedKey              as long as the RSA modulus
//	      EncryptedContentInfo SEQUENCE                  definite or indefinite
//	        id-data
//	        aes256-CBC { IV of 16 bytes }
//	        encryptedContent, one of
//	          [0] { OCTET STRING … }    constructed, definite or indefinite
//	          [0] bytes                 primitive
//
// Anything else is refused, with an [Error] that says what was found and at
// which byte. BER (X.690) allows far more than this package accepts. Refused
// on purpose, since KMS sends none of it and each is a way to hide something:
// lengths not in their shortest form, lengths of more than four bytes, tags of
// more than one byte, indefinite lengths elsewhere than above, octet strings
// nested in octet strings, empty octet strings, trailing bytes.
//
// # What an envelope proves
//
// Nothing about its sender. Anyone who has the recipient's public key, which
// is in the attestation document for all to read, can make an envelope that
// opens; and CBC mode lets whoever relays an envelope change its plaintext.
// The caller must get envelopes over a channel that it trusts, and must check
// the plaintext's length where it is known.
package cms
