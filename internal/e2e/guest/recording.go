//go:build linux && amd64

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// exchange is a request to record. The CBOR is written by hand: half of it is
// what the library never sends.
type exchange struct {
	comment string
	request []byte
}

func text(s string) []byte { return append(head(0x60, len(s)), s...) }
func blob(b []byte) []byte { return append(head(0x40, len(b)), b...) }

// head is the head of a CBOR item in its shortest form.
func head(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	}
	return binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// call is a request with fields: names and values in turn.
func call(kind string, fields ...[]byte) []byte {
	return join([]byte{0xa1}, text(kind), head(0xa0, len(fields)/2), join(fields...))
}

var null = []byte{0xf6}

func attestationOf(userData, nonce, publicKey []byte) []byte {
	return call("Attestation", text("user_data"), userData, text("nonce"), nonce, text("public_key"), publicKey)
}

func onPCR(kind string, index int) []byte { return call(kind, text("index"), head(0, index)) }

func extendPCR(index int, data []byte) []byte {
	return call("ExtendPCR", text("index"), head(0, index), text("data"), data)
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// conversation is what is recorded, in this order, on a machine that has just
// booted.
func conversation() []exchange {
	list := []exchange{
		{"DescribeNSM at boot", text("DescribeNSM")},
		{"GetRandom", text("GetRandom")},
	}
	for index := range nsmtest.NumPCRs {
		list = append(list, exchange{fmt.Sprintf("DescribePCR %d at boot", index), onPCR("DescribePCR", index)})
	}
	add := func(comment string, request []byte) { list = append(list, exchange{comment, request}) }

	for _, index := range []int{32, 255, 256, 300, 65535} {
		add(fmt.Sprintf("DescribePCR %d", index), onPCR("DescribePCR", index))
	}
	add("ExtendPCR 16", extendPCR(16, blob([]byte("hello"))))
	add("ExtendPCR 16 again", extendPCR(16, blob([]byte("hello"))))
	add("ExtendPCR with no bytes", extendPCR(17, blob(nil)))
	add("ExtendPCR with 1024 bytes", extendPCR(17, blob(pattern(1024))))
	longest := 4096 - len(extendPCR(17, blob(pattern(4000)))) + 4000
	add("ExtendPCR, a request of 4096 bytes", extendPCR(17, blob(pattern(longest))))
	add("ExtendPCR, a request of 4097 bytes", extendPCR(17, blob(pattern(longest+1))))
	add("ExtendPCR with null", extendPCR(18, null))
	add("ExtendPCR with a text string", extendPCR(18, text("hello")))
	add("ExtendPCR without data", onPCR("ExtendPCR", 18))
	add("ExtendPCR 32", extendPCR(32, blob([]byte("hello"))))
	add("ExtendPCR 300", extendPCR(300, blob([]byte("hello"))))
	add("DescribePCR 18, extended or not", onPCR("DescribePCR", 18))
	add("LockPCR 16", onPCR("LockPCR", 16))
	add("LockPCR 16 again", onPCR("LockPCR", 16))
	add("ExtendPCR 16, locked", extendPCR(16, blob([]byte("hello"))))
	add("DescribePCR 16, locked", onPCR("DescribePCR", 16))
	add("LockPCR 32", onPCR("LockPCR", 32))
	add("LockPCR 300", onPCR("LockPCR", 300))
	for _, count := range []int{0, 18, 18, 33, 255, 256, 300} {
		add(fmt.Sprintf("LockPCRs %d", count), call("LockPCRs", text("range"), head(0, count)))
	}
	add("ExtendPCR 0, locked", extendPCR(0, blob([]byte("hello"))))
	add("DescribePCR 17, locked", onPCR("DescribePCR", 17))
	add("DescribeNSM with 18 locked", text("DescribeNSM"))

	field := func(n int) []byte { return blob(pattern(n)) }
	add("Attestation of nothing", attestationOf(null, null, null))
	add("Attestation of empty strings", attestationOf(blob(nil), blob(nil), blob(nil)))
	add("Attestation with a nonce", attestationOf(null, field(32), null))
	add("Attestation with user data", attestationOf(blob([]byte(`{"hello":"world"}`)), null, null))
	add("Attestation with a public key of 294 bytes", attestationOf(null, null, field(294)))
	add("Attestation with all", attestationOf(field(16), field(32), field(294)))
	add("Attestation with 512, 512 and 1024 bytes", attestationOf(field(512), field(512), field(1024)))
	add("Attestation with 1024 bytes of each", attestationOf(field(1024), field(1024), field(1024)))
	add("Attestation with user data of 1025 bytes", attestationOf(field(1025), null, null))
	add("Attestation with a nonce of 1025 bytes", attestationOf(null, field(1025), null))
	add("Attestation with a public key of 1025 bytes", attestationOf(null, null, field(1025)))
	add("Attestation without fields", call("Attestation"))
	add("Attestation with a nonce alone", call("Attestation", text("nonce"), field(8)))
	add("Attestation with fields in another order", call("Attestation", text("public_key"), field(4), text("nonce"), field(8), text("user_data"), field(2)))
	add("Attestation with an unknown field", call("Attestation", text("nonce"), field(8), text("other"), field(8)))
	add("Attestation with a nonce twice", call("Attestation", text("nonce"), field(8), text("nonce"), field(4)))
	add("Attestation with a text string", attestationOf(null, text("nonce"), null))
	add("Attestation with an integer for a nonce", attestationOf(null, []byte{0x07}, null))
	add("Attestation, a map of indefinite length", join([]byte{0xa1}, text("Attestation"), []byte{0xbf}, text("nonce"), field(8), []byte{0xff}))

	add("DescribePCR, the index in two bytes", call("DescribePCR", text("index"), []byte{0x18, 0x00}))
	add("DescribePCR, the index in three bytes", call("DescribePCR", text("index"), []byte{0x19, 0x00, 0x00}))
	add("DescribePCR, the index in nine bytes", call("DescribePCR", text("index"), []byte{0x1b, 0, 0, 0, 0, 0, 0, 0, 0}))
	add("DescribePCR -1", call("DescribePCR", text("index"), []byte{0x20}))
	add("DescribePCR with a text for an index", call("DescribePCR", text("index"), text("0")))
	add("DescribePCR without index", call("DescribePCR"))
	add("DescribePCR as text", text("DescribePCR"))
	add("DescribeNSM as map", call("DescribeNSM"))
	add("DescribeNSM with null", join([]byte{0xa1}, text("DescribeNSM"), null))
	add("GetRandom as map", call("GetRandom"))
	add("an unknown text", text("foo"))
	add("an unknown map", call("foo"))
	add("a map of two requests", join([]byte{0xa2}, text("DescribeNSM"), null, text("GetRandom"), null))
	add("an empty map", []byte{0xa0})
	add("an array", join([]byte{0x81}, text("DescribeNSM")))
	add("an integer", []byte{0x00})
	add("a byte string", blob([]byte("DescribeNSM")))
	add("a tagged text", join([]byte{0xc1}, text("DescribeNSM")))
	add("truncated CBOR", text("DescribeNSM")[:3])
	add("a lone break", []byte{0xff})
	add("bytes after the request", join(text("DescribeNSM"), []byte{1, 2, 3}))
	return list
}

// recordingPart is how many bytes of a recording go into a line.
const recordingPart = 8 << 10

func (g *guest) recordings() {
	g.check("nsm/recording", func(context.Context) (string, error) {
		device, err := openRaw()
		if err != nil {
			return "", err
		}
		recorder := nsmtest.NewRecorder(device)
		defer recorder.Close()
		list := conversation()
		for _, e := range list {
			if _, err := recorder.Send(e.request); err != nil && !errors.Is(err, syscall.EMSGSIZE) {
				return "", fmt.Errorf("%s: %w", e.comment, err)
			}
		}
		recording, err := recorder.Recording()
		if err != nil {
			return "", err
		}
		for i := range recording.Exchanges {
			recording.Exchanges[i].Comment = list[i].comment
		}
		recording.Comment = "Linux " + release() + " on QEMU's emulated NSM, machine " + g.machine +
			": the bytes that the driver took and gave, recorded by internal/e2e at boot. Documents are unsigned."
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if err := recording.Write(z); err != nil {
			return "", err
		}
		if err := z.Close(); err != nil {
			return "", err
		}
		for part := b.Bytes(); len(part) > 0; {
			n := min(len(part), recordingPart)
			g.line(e2e.Line{Recording: part[:n]})
			part = part[n:]
		}
		return fmt.Sprintf("%d exchanges", len(list)), nil
	})

	// The driver cuts a response to the caller's buffer, and says nothing.
	g.check("nsm/short-buffer", func(context.Context) (string, error) {
		device, err := openRaw()
		if err != nil {
			return "", err
		}
		defer device.Close()
		whole, err := device.Send(text("DescribeNSM"))
		if err != nil {
			return "", err
		}
		room := make([]byte, 64)
		n, err := device.exchange(text("DescribeNSM"), room)
		if err != nil || n != len(room) || !bytes.Equal(room, whole[:n]) {
			return "", fmt.Errorf("%d bytes %x, %w", n, room, err)
		}
		return fmt.Sprintf("%d of %d bytes, without an error: a buffer must have nsm.MaxResponseSize", n, len(whole)), nil
	})

	// What OpenDevice hands out must be what the driver wrote, but for the order
	// of maps.
	g.check("nsm/device-agrees-with-driver", func(context.Context) (string, error) {
		raw, err := openRaw()
		if err != nil {
			return "", err
		}
		defer raw.Close()
		device, err := nsm.OpenDevice()
		if err != nil {
			return "", err
		}
		defer device.Close()
		compared := 0
		for _, e := range conversation() {
			if bytes.Contains(e.request, []byte("ExtendPCR")) || bytes.Contains(e.request, []byte("LockPCR")) || bytes.Contains(e.request, []byte("GetRandom")) {
				continue
			}
			want, err := raw.Send(e.request)
			if err != nil {
				return "", fmt.Errorf("%s: %w", e.comment, err)
			}
			got, err := device.Send(e.request)
			if err != nil {
				var refused *nsm.Error
				if errors.As(err, &refused) && refused.Reason == nsm.ReasonInvalidArgument {
					continue // not one CBOR item: the library doesn't send it
				}
				return "", fmt.Errorf("%s: %w", e.comment, err)
			}
			if err := sameAnswer(got, want); err != nil {
				return "", fmt.Errorf("%s: %w", e.comment, err)
			}
			compared++
		}
		return fmt.Sprintf("%d answers", compared), nil
	})
}
