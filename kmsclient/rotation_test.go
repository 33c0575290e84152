package kmsclient

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// newTestRotation counts the keys that are made, of which none is real.
func newTestRotation(t *testing.T, every time.Duration) (r *rotation, made *atomic.Int32) {
	t.Helper()
	r, err := newRotation(Options{RotateEvery: every}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	made = new(atomic.Int32)
	r.make = func() (*recipientKey, error) {
		made.Add(1)
		return &recipientKey{}, nil
	}
	return r, made
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, made := newTestRotation(t, time.Hour)
		inMake, finish := make(chan struct{}), make(chan struct{})
		instantly := r.make
		r.make = func() (*recipientKey, error) {
			inMake <- struct{}{}
			<-finish
			return instantly()
		}
		first := r.current()
		time.Sleep(time.Hour - 1)
		if r.current() != first || r.making {
			t.Error("the key is replaced before it is old")
		}
		time.Sleep(time.Nanosecond)
		if r.current() != first {
			t.Error("a call has a key that isn't made yet")
		}
		<-inMake
		for range 50 { // nobody waits, and one in the making is enough
			if r.current() != first {
				t.Error("a call has a key that isn't made yet")
			}
		}
		time.Sleep(2 * time.Hour) // a slow machine
		if r.current() != first {
			t.Error("a call has a key that isn't made yet")
		}
		close(finish)
		synctest.Wait()
		second := r.current()
		if second == first || made.Load() != 1 {
			t.Errorf("%d keys were made", made.Load())
		}
		// Its age counts from when it was ready.
		time.Sleep(time.Hour - 1)
		if r.current() != second || r.making {
			t.Error("the second key is replaced before it is old")
		}
	})
}

func TestNoRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, made := newTestRotation(t, 0)
		first := r.current()
		time.Sleep(10 * 365 * 24 * time.Hour)
		if r.current() != first || made.Load() != 0 {
			t.Error("the key was replaced")
		}
	})
}

// Without a new key the old one stays, and the next call has it tried again.
func TestRotationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, made := newTestRotation(t, time.Hour)
		works := r.make
		r.make = func() (*recipientKey, error) { return nil, errors.New("no") }
		first := r.current()
		time.Sleep(time.Hour)
		for range 2 {
			if r.current() != first {
				t.Error("another key")
			}
			synctest.Wait()
		}
		r.make = works
		if r.current() != first {
			t.Error("another key")
		}
		synctest.Wait()
		if second := r.current(); second == nil || second == first || made.Load() != 1 {
			t.Errorf("the key wasn't replaced after all")
		}
	})
}

// Fifty callers, and a clock by which the key is old at each call: no call
// fails, whatever keys it sees come and go.
func TestRotationUnderLoad(t *testing.T) {
	var minutes atomic.Int64
	epoch := time.Now()
	keys := sync.Map{}
	s := newStub(t, func(r stubRequest) (int, any) {
		d := r.document(t)
		keys.Store(string(d[:len(d)-1]), true)
		id, _ := r.body["EncryptionContext"].(map[string]any)["id"].(string)
		return http.StatusOK, object{"KeyId": keyA, "CiphertextForRecipient": r.seal(t, []byte(id))}
	})
	setup, err := newSetup(t.Context(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots,
		RotateEvery: time.Minute, Clock: func() time.Time { return epoch.Add(time.Duration(minutes.Add(1)) * time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(testConfig(), setup.apply)
	closeIdle(t, client)
	distinct := func() (n int) {
		keys.Range(func(any, any) bool { n++; return true })
		return n
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			// At least three calls each, and on until keys have been replaced.
			for j := 0; j < 3 || distinct() < 3; j++ {
				id := fmt.Sprintf("%d of %d", j, i)
				out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("blob"), EncryptionContext: map[string]string{"id": id}})
				if err != nil || string(out.Plaintext) != id {
					t.Errorf("%s: error %v", id, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for making := true; making; runtime.Gosched() { // the last key, for nobody
		setup.keys.mutex.Lock()
		making = setup.keys.making
		setup.keys.mutex.Unlock()
	}
}

// All attempts of a call are for one key, that of the call's beginning.
func TestRotationBetweenAttempts(t *testing.T) {
	var setup *setup
	s := newStub(t, nil)
	s.answer = func(r stubRequest) (int, any) {
		if len(s.seen()) < 3 {
			key, err := newRecipientKey(2048)
			if err != nil {
				t.Error(err)
			}
			setup.keys.mutex.Lock()
			setup.keys.key = key
			setup.keys.mutex.Unlock()
			return http.StatusInternalServerError, object{"__type": "KMSInternalException"}
		}
		return http.StatusOK, honestAnswer(t, r, []byte("plaintext"))
	}
	setup, err := newSetup(t.Context(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots, RotateEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(testConfig(), withRetries, setup.apply)
	closeIdle(t, client)
	decrypts(t, client)
	decrypts(t, client)
	var keys []string
	for _, r := range s.seen() {
		d := r.document(t)
		keys = append(keys, string(d[:len(d)-1]))
	}
	if len(keys) != 4 || keys[1] != keys[0] || keys[2] != keys[0] {
		t.Fatalf("%d attempts, for different keys", len(keys)-1)
	}
	if keys[3] == keys[0] {
		t.Error("the next call has the old key")
	}
}
