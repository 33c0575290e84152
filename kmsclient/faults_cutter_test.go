package kmsclient_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// point is a place in the life of a connection, as one sees it who can't read
// what is encrypted.
type point string

const (
	nowhere       point = ""
	onAccept      point = "before TLS"
	inClientHello point = "in the ClientHello"
	inServerHello point = "in the ServerHello"
	beforeRequest point = "before the request"
	inRequest     point = "in the request"
	beforeAnswer  point = "before the response"
	inHeader      point = "in the answer's header"
	inBody        point = "in the answer's body"
	onReuse       point = "when it is used again" // at the first byte of the second request
)

var allPoints = []point{onAccept, inClientHello, inServerHello, beforeRequest, inRequest, beforeAnswer, inHeader, inBody, onReuse}

// fault is what happens to a connection: it is reset, or nothing goes any
// further until release.
type fault struct {
	at   point
	hold bool
}

// cutter is a piece of the network between the proxy and KMS. It carries TLS
// 1.3, of which it reads the types of the records.
type cutter struct {
	target   string
	listener net.Listener
	// next is asked for the fault of each connection.
	next func() fault
	// held tells of each connection that is being held.
	held    chan point
	running sync.WaitGroup

	mutex    sync.Mutex
	accepted int
	met      map[point]int
	open     map[*cable]bool
}

// newCutter listens on the address, which may have port 0.
func newCutter(t testing.TB, address, target string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{target: target, listener: l, held: make(chan point, 1000), met: make(map[point]int), open: make(map[*cable]bool)}
	c.running.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

// plan sets the faults of the next connections; all later ones have none.
func (c *cutter) plan(faults ...fault) {
	c.deal(func() (f fault) {
		if len(faults) > 0 {
			f, faults = faults[0], faults[1:]
		}
		return f
	})
}

func (c *cutter) deal(next func() fault) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.next = next
}

// counts returns the number of connections so far, and of the faults that they
// met.
func (c *cutter) counts() (accepted int, met map[point]int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	met = make(map[point]int)
	for at, n := range c.met {
		met[at] = n
	}
	return c.accepted, met
}

// resetAll resets all open connections.
func (c *cutter) resetAll() (n int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for k := range c.open {
		k.reset()
	}
	return len(c.open)
}

// spoil gives the open connections another fault, and lets go on what is held.
func (c *cutter) spoil(f fault) {
	c.mutex.Lock()
	for k := range c.open {
		k.mutex.Lock()
		k.fault, k.met = f, false
		k.mutex.Unlock()
	}
	c.mutex.Unlock()
	c.release()
}

// release lets go on what is held.
func (c *cutter) release() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for k := range c.open {
		k.free.Do(func() { close(k.released) })
	}
}

func (c *cutter) close() {
	_ = c.listener.Close()
	c.resetAll()
	c.running.Wait()
}

func (c *cutter) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() { c.carry(conn.(*net.TCPConn)) })
	}
}

func (c *cutter) carry(enclave *net.TCPConn) {
	k := &cable{cutter: c, enclave: enclave, released: make(chan struct{})}
	c.mutex.Lock()
	c.accepted++
	if c.next != nil {
		k.fault = c.next()
	}
	c.open[k] = true
	c.mutex.Unlock()
	defer func() {
		c.mutex.Lock()
		defer c.mutex.Unlock()
		delete(c.open, k)
		k.reset()
	}()

	if k.fault.at == onAccept && !k.meet(onAccept) {
		return
	}
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	c.mutex.Lock()
	k.server = server.(*net.TCPConn)
	ended := k.ended
	c.mutex.Unlock()
	if ended {
		_ = server.Close()
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		k.copy(k.enclave, k.server, k.toEnclave)
		_ = k.enclave.CloseWrite()
	})
	k.copy(k.server, k.enclave, k.toServer)
	_ = k.server.CloseWrite()
	back.Wait()
}

// cable is one connection through a cutter.
type cable struct {
	cutter          *cutter
	enclave, server *net.TCPConn
	released        chan struct{}
	free            sync.Once
	ended           bool // under the cutter's mutex

	mutex sync.Mutex
	fault fault
	met   bool
	// How many records with application data went to the server, how many
	// requests these were (the first record ends the handshake), how many
	// records the last request and its answer have so far.
	records, requests, requestRecords, answerRecords int
}

// reset is called with the cutter's mutex held.
func (k *cable) reset() {
	k.ended = true
	k.free.Do(func() { close(k.released) })
	for _, conn := range []*net.TCPConn{k.enclave, k.server} {
		if conn != nil {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
	}
}

// meet has the fault happen, and says whether to go on.
func (k *cable) meet(at point) bool {
	k.mutex.Lock()
	hold := k.fault.hold
	k.mutex.Unlock()
	k.cutter.mutex.Lock()
	k.cutter.met[at]++
	if !hold {
		k.reset()
	}
	k.cutter.mutex.Unlock()
	if hold {
		k.cutter.held <- at
		<-k.released
	}
	return hold
}

// How much of a record passes before the fault.
const (
	all = iota
	none
	half
)

const handshakeRecord, dataRecord = 22, 23

// toServer judges a record to the server. The mutex is held.
func (k *cable) toServer(kind byte, size int) (at point, passes int) {
	if kind == handshakeRecord {
		return inClientHello, half
	}
	const alert = 19 // the goodbye, encrypted
	if kind != dataRecord || size <= alert {
		return nowhere, all
	}
	k.records++
	if k.records == 1 {
		return nowhere, all // the end of the handshake
	}
	if k.requests == 0 || k.answerRecords > 0 {
		k.requests++
		k.requestRecords, k.answerRecords = 0, 0
	}
	k.requestRecords++
	switch {
	case k.requests == 1 && k.requestRecords == 1:
		return beforeRequest, none
	case k.requests == 1 && k.requestRecords == 2:
		return inRequest, none
	case k.requests == 2 && k.requestRecords == 1:
		return onReuse, none
	}
	return nowhere, all
}

// toEnclave judges a record from the server. Half of the first record of an
// answer holds nothing that can be decrypted; the whole one has the header and
// some of the body.
func (k *cable) toEnclave(kind byte, _ int) (at point, passes int) {
	switch {
	case kind == handshakeRecord:
		return inServerHello, half
	case kind != dataRecord || k.requests == 0:
		return nowhere, all
	}
	k.answerRecords++
	switch {
	case k.requests != 1:
	case k.answerRecords == 1 && k.fault.at == inHeader:
		return inHeader, half
	case k.answerRecords == 1:
		return beforeAnswer, none
	case k.answerRecords == 2:
		return inBody, none
	}
	return nowhere, all
}

// copy carries record by record.
func (k *cable) copy(dst, src *net.TCPConn, judge func(kind byte, size int) (point, int)) {
	const header = 5
	for {
		record := make([]byte, header)
		if _, err := io.ReadFull(src, record); err != nil {
			if !errors.Is(err, io.EOF) {
				k.cutter.mutex.Lock()
				k.reset()
				k.cutter.mutex.Unlock()
			}
			return
		}
		size := int(binary.BigEndian.Uint16(record[3:]))
		record = append(record, make([]byte, size)...)
		if _, err := io.ReadFull(src, record[header:]); err != nil {
			return
		}
		k.mutex.Lock()
		at, passes := judge(record[0], size)
		now := at != nowhere && at == k.fault.at && !k.met
		k.met = k.met || now
		k.mutex.Unlock()
		if now {
			first := map[int]int{all: len(record), none: 0, half: len(record) / 2}[passes]
			if _, err := dst.Write(record[:first]); err != nil || !k.meet(at) {
				return
			}
			record = record[first:]
		}
		if _, err := dst.Write(record); err != nil {
			return
		}
	}
}
