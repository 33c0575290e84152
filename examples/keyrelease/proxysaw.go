package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// showWhatProxySaw searches for the secret in everything that the parent could read.
func showWhatProxySaw(r *report, tap *wiretap, secret []byte) error {
	fromEnclave, toEnclave := tap.streams()
	records, size := 0, [2]int{}
	for i, streams := range [][][]byte{fromEnclave, toEnclave} {
		for _, stream := range streams {
			for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret))} {
				if bytes.Contains(stream, form) {
					return errors.New("the secret passed the proxy in the clear")
				}
			}
			n, err := countTLSRecords(stream)
			if err != nil {
				return err
			}
			records += n
			size[i] += len(stream)
		}
	}
	r.step("parent", "looked at all that passed its proxy",
		fact{"bytes", fmt.Sprintf("%d from the enclave, %d to it, on %d connection(s)", size[0], size[1], len(fromEnclave))},
		fact{"content", fmt.Sprintf("%d TLS records and nothing else; the secret is not among them in the clear", records)})
	return nil
}

// countTLSRecords counts the TLS records of a stream (RFC 8446, section 5.1: type, version,
// length, fragment). It refuses anything else.
func countTLSRecords(stream []byte) (int, error) {
	const headerSize = 5
	types := []byte{20, 21, 22, 23} // change cipher spec, alert, handshake, application data
	count := 0
	for len(stream) > 0 {
		if len(stream) < headerSize || !slices.Contains(types, stream[0]) || stream[1] != 3 {
			return 0, errors.New("something that is not TLS passed the proxy")
		}
		size := headerSize + int(binary.BigEndian.Uint16(stream[3:]))
		// The last record may have been cut off by the end of the connection.
		stream = stream[min(size, len(stream)):]
		count++
	}
	return count, nil
}
