package relay

import (
	"sync"
	"sync/atomic"
)

const (
	// smallBuffer is one TLS record (RFC 8446, section 5.1) less its header, in
	// bytes.
	smallBuffer = 16 << 10

	// largeBuffer saves most of the system calls of a stream that fills small ones.
	largeBuffer = 256 << 10

	// maxLargeBuffers bounds the large buffers of a process, which are held as long
	// as a receiver does not take what is in them. Streams that get none go on
	// with small ones.
	maxLargeBuffers = 64
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	largeInUse   atomic.Int32
)

// borrow gets a buffer.
func (f *flow) borrow() {
	if f.bulk {
		if largeInUse.Add(1) <= maxLargeBuffers {
			f.buf = largeBuffers.Get().(*[largeBuffer]byte)[:]
			return
		}
		largeInUse.Add(-1)
	}
	f.buf = smallBuffers.Get().(*[smallBuffer]byte)[:]
}

// release gives back what is borrowed.
func (f *flow) release() {
	switch len(f.buf) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(f.buf))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(f.buf))
		largeInUse.Add(-1)
	}
	f.buf, f.chunk = nil, nil
	f.releasePipe()
}
