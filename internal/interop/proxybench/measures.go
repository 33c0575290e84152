//go:build linux

package main

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// measure takes several figures at once.
type measure struct {
	name    string
	figures []figure
	take    func(*process, size) ([]float64, error)
}

func (m measure) String() string { return m.name }

// figure is one number about a proxy.
type figure struct {
	name    string
	decimal int // places to print
	targets []target
}

// target is a bound: of our figure's ratio to a peer's, or without a peer of the
// figure itself.
type target struct {
	peer  string
	least bool // else at most
	bound float64
}

var (
	cheapBytes       = []target{{peer: "haproxy", bound: 0.55}}
	quickConnections = []target{{peer: "haproxy", least: true, bound: 0.8}, {peer: "socat", least: true, bound: 15}, {peer: "socat-short-queue", least: true, bound: 15}}
	shortTrip        = []target{{peer: "nginx", bound: 1.4}}
	smallConnection  = []target{{bound: 12.5}}
	twoDescriptors   = []target{{bound: 2}}
)

var allMeasures = []measure{
	{"idle", []figure{
		{"idle RSS KB/connection", 1, smallConnection},
		{"idle PSS KB/connection", 1, nil},
		{"idle descriptors/connection", 2, twoDescriptors},
	}, idle},
	{"bulk1", []figure{
		{"CPU s/GiB, 1 connection", 3, cheapBytes},
		{"MiB/s, 1 connection", 0, nil},
	}, bulk(1)},
	{"bulk64", []figure{
		{"CPU s/GiB, 64 connections", 3, cheapBytes},
		{"MiB/s, 64 connections", 0, nil},
	}, bulk(64)},
	{"connect", []figure{
		{"new connections/s", 0, quickConnections},
		{"CPU µs/new connection", 0, nil},
	}, connect},
	{"trip1", []figure{
		{"1 KiB trip µs p50, 1 connection", 0, shortTrip},
		{"1 KiB trip µs p99, 1 connection", 0, nil},
	}, trip(1)},
	{"trip16", []figure{
		{"1 KiB trip µs p50, 16 connections", 0, shortTrip},
		{"1 KiB trip µs p99, 16 connections", 0, nil},
	}, trip(16)},
}

func bulk(connections int) func(*process, size) ([]float64, error) {
	return func(p *process, s size) ([]float64, error) {
		all, err := p.dialAll(connections, headerSize)
		if err != nil {
			return nil, err
		}
		defer all.close()
		each := s.bulk / int64(connections)
		cpu, elapsed, err := p.during(func() error {
			return together(connections, func(i int) error { return all[i].exchange(headerSize, each) })
		})
		if err != nil {
			return nil, err
		}
		bytes := float64(each * int64(connections))
		return []float64{cpu.Seconds() / bytes * (1 << 30), bytes / (1 << 20) / elapsed.Seconds()}, nil
	}
}

// during returns the CPU time of the proxy and the time on the clock that do took.
func (p *process) during(do func() error) (cpu, elapsed time.Duration, err error) {
	before, err := p.cpu()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	elapsed = time.Since(began)
	after, err := p.cpu()
	return after - before, elapsed, err
}

func connect(p *process, s size) ([]float64, error) {
	var made atomic.Int64
	var elapsed time.Duration
	cpu, _, err := p.during(func() error {
		began := time.Now()
		err := together(16, func(int) error {
			for time.Since(began) < s.connect {
				if err := p.once(); err != nil {
					return err
				}
				made.Add(1)
			}
			return nil
		})
		elapsed = time.Since(began)
		if err != nil {
			return err
		}
		return p.settled() // closing is the proxy's work, too
	})
	if err != nil {
		return nil, err
	}
	n := float64(made.Load())
	return []float64{n / elapsed.Seconds(), cpu.Seconds() * 1e6 / n}, nil
}

func trip(connections int) func(*process, size) ([]float64, error) {
	return func(p *process, s size) ([]float64, error) {
		const length = 1 << 10
		all, err := p.dialAll(connections, length)
		if err != nil {
			return nil, err
		}
		defer all.close()
		took := make([]time.Duration, max(s.exchanges/connections, 1)*connections)
		err = together(connections, func(i int) error {
			for k := i; k < len(took); k += connections {
				began := time.Now()
				if err := all[i].exchange(length, length); err != nil {
					return err
				}
				took[k] = time.Since(began)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		slices.Sort(took)
		at := func(part float64) float64 {
			return float64(took[int(part*float64(len(took)-1))].Nanoseconds()) / 1e3
		}
		return []float64{at(0.5), at(0.99)}, nil
	}
}

// idle measures a fresh process, because one that has worked holds on to memory.
func idle(worked *process, s size) (_ []float64, err error) {
	p, err := worked.restart()
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := p.stop(); err == nil {
			err = e
		}
	}()
	before, err := p.holdings()
	if err != nil {
		return nil, err
	}
	all, err := p.dialAll(s.idle, 1<<10)
	if err != nil {
		return nil, err
	}
	defer all.close()
	time.Sleep(s.settle)
	after, err := p.holdings()
	if err != nil {
		return nil, err
	}
	if open := p.origin.open.Load(); open != int64(s.idle) {
		return nil, fmt.Errorf("%d connections have arrived at the origin instead of %d", open, s.idle)
	}
	each := func(bytes int64) float64 { return float64(bytes) / 1000 / float64(s.idle) }
	return []float64{
		each(after.rss - before.rss),
		each(after.pss - before.pss),
		float64(after.descriptors-before.descriptors) / float64(s.idle),
	}, nil
}
