package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// BenchmarkMeasure runs attest measure and sha384sum in turns over an image of 256
// MiB. The ratios are of a turn's two: of processor time, user and system, and of
// time on the wall.
func BenchmarkMeasure(b *testing.B) {
	sha384sum, err := exec.LookPath("sha384sum")
	if err != nil {
		b.Skip("there is no sha384sum to compare with")
	}
	dir := b.TempDir()
	program := filepath.Join(dir, "attest")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, shape := range []struct {
		name     string
		ramdisks []int64 // MiB
	}{
		{"one-ram-disk", []int64{250}},
		{"nitro-cli", []int64{2, 248}}, // its init, and then the application, which is in two registers
	} {
		b.Run(shape.name, func(b *testing.B) {
			path := filepath.Join(dir, shape.name+".eif")
			c := eif.Contents{Kernel: zeros(6 << 20)}
			for _, mib := range shape.ramdisks {
				c.Ramdisks = append(c.Ramdisks, zeros(mib<<20))
			}
			file, err := os.Create(path)
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			image, err := eif.Write(file, c)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(image.Size)
			run := func(name string, args ...string) (cpu, wall time.Duration) {
				cmd := exec.Command(name, args...)
				start := time.Now()
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
				return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), time.Since(start)
			}
			run(sha384sum, path) // so that the file is in memory
			var cpus, walls []float64
			for b.Loop() {
				cpu, wall := run(program, "measure", path)
				b.StopTimer()
				otherCPU, otherWall := run(sha384sum, path)
				b.StartTimer()
				cpus = append(cpus, float64(cpu)/float64(otherCPU))
				walls = append(walls, float64(wall)/float64(otherWall))
			}
			for unit, ratios := range map[string][]float64{"cpu-ratio": cpus, "wall-ratio": walls} {
				slices.Sort(ratios)
				b.ReportMetric(ratios[0], "min-"+unit)
				b.ReportMetric(ratios[len(ratios)/2], "median-"+unit)
			}
		})
	}
}

// zeros is as many zero bytes, none of them in memory.
func zeros(size int64) eif.Source { return io.NewSectionReader(zeroReader{}, 0, size) }

type zeroReader struct{}

func (zeroReader) ReadAt(b []byte, _ int64) (int, error) { clear(b); return len(b), nil }
