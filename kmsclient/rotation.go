package kmsclient

import (
	"fmt"
	"sync"
	"time"
)

const (
	defaultKeyBits = 2048
	// minRotateEvery is about a thousand times what it takes to make a key. A
	// shorter time is a number that lacks its unit.
	minRotateEvery = time.Minute
)

// rotation holds the key for the next call, and replaces it when it has grown
// old. It can be used concurrently.
type rotation struct {
	every time.Duration // 0: never
	clock func() time.Time
	make  func() (*recipientKey, error)

	mutex  sync.Mutex
	key    *recipientKey
	making bool // a goroutine makes the next key
}

func newRotation(opts Options, clock func() time.Time) (*rotation, error) {
	bits := opts.KeyBits
	switch bits {
	case 0:
		bits = defaultKeyBits
	case 2048, 3072, 4096:
	default:
		return nil, &Error{Reason: ReasonInvalidOptions, Detail: fmt.Sprintf("KeyBits is %d, must be 2048, 3072 or 4096", bits)}
	}
	if opts.RotateEvery != 0 && opts.RotateEvery < minRotateEvery {
		return nil, &Error{Reason: ReasonInvalidOptions,
			Detail: fmt.Sprintf("RotateEvery is %v, must be 0 for never or at least %v, such as 24*time.Hour", opts.RotateEvery, minRotateEvery)}
	}
	r := &rotation{every: opts.RotateEvery, clock: clock, make: func() (*recipientKey, error) { return newRecipientKey(bits) }}
	key, err := r.make()
	if err != nil {
		return nil, err
	}
	key.made = clock()
	r.key = key
	return r, nil
}

// current returns the key for a call, which keeps it through all its attempts.
// Nobody waits here: who finds that the key is old sees to the next one.
func (r *rotation) current() *recipientKey {
	if r.every == 0 {
		return r.key
	}
	now := r.clock()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !r.making && now.Sub(r.key.made) >= r.every {
		r.making = true
		go r.replace()
	}
	return r.key
}

// replace ends by itself as soon as it has a key, so that there is nothing to
// stop. If it can't have one, the next call has it tried again.
func (r *rotation) replace() {
	key, err := r.make()
	if err == nil {
		key.made = r.clock()
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.making = false
	if err == nil {
		r.key = key
	}
}
