package main

import (
	"io"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, exitReleased},
		{[]string{"-tamper", "nonce"}, exitRefused},
		{[]string{"-tamper", "root"}, exitRefused},
		{[]string{"-nonsense"}, exitUsage},
		{[]string{"-device", "/dev/nsm", "-proxy", "vsock://3:8000", "-region", "r", "-key-id", "k", "-ciphertext", "AAAA"}, exitFailed},
	} {
		if got := run(c.args, io.Discard, io.Discard); got != c.want {
			t.Errorf("%q: exit code %d, want %d", c.args, got, c.want)
		}
	}
}

// What the proxy saw is only proof if something else than TLS is noticed.
func TestCountTLSRecords(t *testing.T) {
	record := []byte{22, 3, 1, 0, 2, 'h', 'i'}
	for _, c := range []struct {
		stream string
		want   int // -1 for an error
	}{
		{"", 0},
		{string(record), 1},
		{string(record) + string(record), 2},
		{string(record) + "\x17\x03\x03\x00\xffcut", 2},
		{"GET / HTTP/1.1\r\n", -1},
		{string(record) + "plain", -1},
	} {
		got, err := countTLSRecords([]byte(c.stream))
		if (c.want < 0) != (err != nil) || err == nil && got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.stream, got, err, c.want)
		}
	}
}
