package main

import (
	"errors"
	"maps"
	"net"
	"sync"
	"sync/atomic"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// counts are what metrics say of a route.
type counts struct {
	accepted, failed atomic.Int64 // by the listener

	mu                     sync.Mutex
	ends                   map[string]int64 // connections by why they ended
	ended                  int64            // the sum of ends
	fromEnclave, toEnclave int64            // bytes of connections that have ended
}

func newCounts() *counts {
	// From the beginning, so that the first connection is an increase.
	return &counts{ends: map[string]int64{"closed": 0}}
}

// end is for Proxy.OnEnd.
func (c *counts) end(e vsockproxy.ConnEnd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends[e.End]++ // few: the reasons of the package
	c.ended++
	c.fromEnclave += e.FromEnclave
	c.toEnclave += e.ToEnclave
}

func (c *counts) open() int64 {
	c.mu.Lock()
	ended := c.ended
	c.mu.Unlock()
	// Read later, so that there are never fewer accepted than ended.
	return c.accepted.Load() - ended
}

func (c *counts) endings() (ends map[string]int64, fromEnclave, toEnclave int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.ends), c.fromEnclave, c.toEnclave
}

// countedListener counts. It passes connections on as they are, since the proxy
// looks at what they can do.
type countedListener struct {
	net.Listener
	counts *counts
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	switch {
	case err == nil:
		l.counts.accepted.Add(1)
	case !errors.Is(err, net.ErrClosed):
		l.counts.failed.Add(1)
	}
	return conn, err
}
