package eif_test

import (
	"bytes"
	"crypto/sha512"
	"slices"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// shapes are two ways to divide an image. What stands in the ram disks after the
// first is in two registers that cannot share the work, and the rest in one.
var shapes = []struct {
	name     string
	ramdisks []int64 // MiB
}{
	{"one-ram-disk", []int64{48}},
	{"nitro-cli", []int64{2, 46}}, // its init, and then the application
}

// image makes a file of that shape.
func image(b *testing.B, ramdisks []int64) []byte {
	b.Helper()
	c := contents()
	c.Kernel = bytes.NewReader(make([]byte, 6<<20))
	c.Ramdisks = nil
	for _, mib := range ramdisks {
		c.Ramdisks = append(c.Ramdisks, bytes.NewReader(make([]byte, mib<<20)))
	}
	file, _ := write(b, c)
	return file
}

// BenchmarkRead measures an image, and beside it, in turns, hashes the same bytes
// once with crypto/sha512. The ratios are of the two times in a turn.
func BenchmarkRead(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			file := image(b, s.ramdisks)
			b.SetBytes(int64(len(file)))
			b.ReportAllocs()
			var ratios []float64
			for b.Loop() {
				b.StopTimer()
				start := time.Now()
				sha512.Sum384(file)
				hashed := time.Now()
				b.StartTimer()
				if _, err := eif.Read(bytes.NewReader(file)); err != nil {
					b.Fatal(err)
				}
				ratios = append(ratios, float64(time.Since(hashed))/float64(hashed.Sub(start)))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[0], "min-ratio")
			b.ReportMetric(ratios[len(ratios)/2], "median-ratio")
		})
	}
}
