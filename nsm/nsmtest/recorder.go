package nsmtest

import (
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

// Recorder is an [nsm.Device] that passes every request on to another device,
// hardware included, and records what happens. It is safe for concurrent use if
// the other device is; exchanges are recorded in the order in which they end.
//
// A recording of hardware holds what GetRandom answered: never use that
// randomness for anything but tests.
type Recorder struct {
	device nsm.Device
	clock  func() time.Time

	mu        sync.Mutex
	recording Recording
	dropped   int
}

// NewRecorder returns a recorder around device, which it owns from then on:
// closing it closes the device. If device is an [NSM], the recording carries
// its root certificate and the times of its clock.
func NewRecorder(device nsm.Device) *Recorder {
	r := &Recorder{device: device, clock: time.Now}
	var root *x509.Certificate
	if n, ok := device.(*NSM); ok {
		r.clock, root = n.opts.Clock, n.Root()
	}
	r.recording = Recording{Started: r.clock(), Root: root}
	return r
}

// Send passes a request on and records it with the response or error.
func (r *Recorder) Send(request []byte) ([]byte, error) {
	exchange := Exchange{At: r.clock(), Request: slices.Clone(request)}
	response, err := r.device.Send(request)
	if err != nil {
		exchange.Error, exchange.Failure = err.Error(), failureOf(err)
	} else {
		exchange.Response = slices.Clone(response)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.recording.Exchanges) < MaxExchanges {
		r.recording.Exchanges = append(r.recording.Exchanges, exchange)
	} else {
		r.dropped++
	}
	return response, err
}

// Close closes the device. What was recorded stays.
func (r *Recorder) Close() error { return r.device.Close() }

// Recording returns what was recorded so far. It fails with [ReasonRecording]
// if that was more than [MaxExchanges].
func (r *Recorder) Recording() (*Recording, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dropped > 0 {
		return nil, tooManyExchanges(MaxExchanges + r.dropped)
	}
	recording := r.recording
	recording.Exchanges = cloneExchanges(recording.Exchanges)
	return &recording, nil
}

// WriteFile writes what was recorded so far; see [Recording.WriteFile].
func (r *Recorder) WriteFile(path string) error {
	recording, err := r.Recording()
	if err != nil {
		return err
	}
	return recording.WriteFile(path)
}
