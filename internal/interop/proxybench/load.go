//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A request is a header and padding: its own length (4 bytes) and the length of
// the response (8 bytes), big endian. A connection carries one after another.
const headerSize = 12

// chunkSize is how much is read and written at once: much, so that the load costs
// little beside the proxy.
const chunkSize = 256 << 10

// lifetime bounds every connection, so that a proxy that hangs ends the bench.
const lifetime = 90 * time.Second

// origin is the server behind a proxy.
type origin struct {
	listener net.Listener
	open     atomic.Int64 // connections
	running  sync.WaitGroup
}

func newOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{listener: l}
	o.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			o.open.Add(1)
			o.running.Go(func() {
				defer o.open.Add(-1)
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(lifetime))
				_ = o.answer(conn) // the client sees what is missing
			})
		}
	})
	return o, nil
}

func (o *origin) address() string { return o.listener.Addr().String() }

// close waits for open connections, which end when the proxy does.
func (o *origin) close() {
	_ = o.listener.Close()
	o.running.Wait()
}

var chunk = make([]byte, chunkSize) // sent, never written to

func (o *origin) answer(conn net.Conn) error {
	in := bufio.NewReaderSize(conn, 2048)
	var header [headerSize]byte
	for {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return err
		}
		padding := int(binary.BigEndian.Uint32(header[:])) - headerSize
		if _, err := in.Discard(padding); err != nil {
			return err
		}
		for left := binary.BigEndian.Uint64(header[4:]); left > 0; {
			n, err := conn.Write(chunk[:min(left, chunkSize)])
			if err != nil {
				return err
			}
			left -= uint64(n)
		}
	}
}

// client is one connection through a proxy.
type client struct {
	conn    net.Conn
	request []byte
	buf     []byte
}

func (p *process) dial() (*client, error) {
	conn, err := net.DialTimeout(p.at.network, p.at.where, startTimeout)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(lifetime))
	return &client{conn: conn}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// exchange sends a request of one length and reads a response of another.
func (c *client) exchange(request int, response int64) error {
	if len(c.request) != request {
		c.request = make([]byte, request)
	}
	binary.BigEndian.PutUint32(c.request, uint32(request))
	binary.BigEndian.PutUint64(c.request[4:], uint64(response))
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	if size := min(response, chunkSize); int64(len(c.buf)) < size {
		c.buf = make([]byte, size)
	}
	for got := int64(0); got < response; {
		n, err := c.conn.Read(c.buf)
		got += int64(n)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("ended after %d of %d bytes", got, response)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clients is several connections through a proxy.
type clients []*client

// dialAll makes n connections and exchanges something over each, so that the proxy
// has all of them on both sides.
func (p *process) dialAll(n, length int) (_ clients, err error) {
	var all clients
	defer func() {
		if err != nil {
			all.close()
		}
	}()
	for range n {
		c, err := p.dial()
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		if err := c.exchange(length, int64(length)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (all clients) close() {
	for _, c := range all {
		c.close()
	}
}

// together calls do for 0 to n-1 at once, and returns their errors.
func together(n int, do func(int) error) error {
	errs := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { errs[i] = do(i) })
	}
	running.Wait()
	return errors.Join(errs...)
}
