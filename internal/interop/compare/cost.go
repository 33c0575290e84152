package main

import (
	"errors"
	"runtime"
	"syscall"
)

// cost is what one operation takes.
type cost struct {
	cpu           float64 // seconds of the process, in user and kernel mode
	bytes, allocs float64
}

// minCPU is the CPU time that a measurement takes at least, in seconds: enough
// that the clock's resolution does not show, and little enough that the machine is
// as fast for one contestant of a round as for the next.
const minCPU = 0.1

func measure(c contestant) (cost, error) {
	var total cost
	operations := 0
	runtime.GC() // what came before isn't this contestant's to clean up
	for total.cpu < minCPU {
		if c.setUp != nil {
			if err := c.setUp(); err != nil {
				return cost{}, err
			}
			runtime.GC()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := cpuTime()
		n, err := c.batch()
		total.cpu += cpuTime() - start
		runtime.ReadMemStats(&after)
		if err != nil {
			return cost{}, err
		}
		if n < 1 {
			return cost{}, errors.New("no operation in a batch")
		}
		operations += n
		total.bytes += float64(after.TotalAlloc - before.TotalAlloc)
		total.allocs += float64(after.Mallocs - before.Mallocs)
	}
	n := float64(operations)
	return cost{total.cpu / n, total.bytes / n, total.allocs / n}, nil
}

func cpuTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // it has no way to fail but a wrong argument
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(usage.Utime) + seconds(usage.Stime)
}
