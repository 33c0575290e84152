package kmsclient_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

// deck deals the faults in an order of its seed: in each round all of them, and
// twice as many connections that carry an answer and are gone when they are used
// again, or that nothing is wrong with. It is called with the cutter's mutex
// held.
func deck(seed uint64) func() fault {
	random := rand.New(rand.NewPCG(seed, 0))
	var left []fault
	return func() (f fault) {
		if len(left) == 0 {
			for _, at := range allPoints {
				left = append(left, fault{at: at}, fault{at: onReuse}, fault{})
			}
			random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		f, left = left[0], left[1:]
		return f
	}
}

// tally counts how calls ended.
type tally struct{ right, channel, kms, ended atomic.Int32 }

// judge wants a call to have the i'th secret, or an error that says why not.
func (c *tally) judge(t *testing.T, ctx context.Context, i int, out *kms.DecryptOutput, err error) {
	t.Helper()
	var e *kmsclient.Error
	switch {
	case err == nil && bytes.Equal(out.Plaintext, secret(i)):
		c.right.Add(1)
	case err == nil:
		t.Errorf("call %d has another plaintext", i)
	case out != nil || !errors.As(err, &e):
		t.Errorf("call %d: output %v, error %v (%T)", i, out != nil, err, err)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		c.ended.Add(1)
		if e.Reason != kmsclient.ReasonCanceled && e.Reason != kmsclient.ReasonAttestation {
			t.Errorf("call %d was cancelled: %v", i, err)
		}
	case e.Reason == kmsclient.ReasonChannel:
		c.channel.Add(1)
	case e.Reason == kmsclient.ReasonKMS && e.Code == "ThrottlingException":
		c.kms.Add(1)
	default:
		t.Errorf("call %d: %v", i, err)
	}
}

// Two hundred callers, each with a plaintext of its own, through one proxy, on
// connections of which most are reset sooner or later, to a KMS that throttles.
// Nobody has another's plaintext, and nobody is left without a word.
func TestFaultsUnderLoad(t *testing.T) {
	const callers, seed = 200, 1
	r := newRig(t, kmsclient.Options{})
	blobs := make([][]byte, callers)
	for i := range blobs {
		blobs[i] = r.seal(t, i)
	}
	r.cutter.deal(deck(seed))
	if err := r.kms.Inject(kmstest.Fault{Operation: "Decrypt", Times: callers / 10, Failure: kmstest.Throttling}); err != nil {
		t.Fatal(err)
	}
	// Each tenth caller's context ends when half of the documents are made.
	impatient, cancel := context.WithCancel(t.Context())
	defer cancel()
	r.documents.seen = func(n, _ int) {
		if n == callers/2 {
			cancel()
		}
	}
	var ends tally
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			ctx := t.Context()
			if i%10 == 0 {
				ctx = impatient
			}
			out, err := r.client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blobs[i]}, attempts(3))
			ends.judge(t, ctx, i, out, err)
		})
	}
	running.Wait()

	conns, met := r.cutter.counts()
	t.Logf("seed %d: %d plaintexts, %d broken, %d throttled, %d cancelled; %d documents, %d connections, faults %v",
		seed, ends.right.Load(), ends.channel.Load(), ends.kms.Load(), ends.ended.Load(), r.count(), conns, met)
	for _, at := range allPoints {
		if met[at] == 0 {
			t.Errorf("no connection was reset %s", at)
		}
	}
	if n := len(r.faulty(kmstest.Throttling)); n != callers/10 {
		t.Errorf("%d requests were throttled", n)
	}
	if n := ends.right.Load(); n < callers/4 {
		t.Errorf("only %d calls had their plaintext", n)
	}
	if ends.ended.Load() == 0 {
		t.Error("no call was cancelled")
	}

	// The client is none the worse for it.
	r.cutter.plan()
	r.cutter.resetAll()
	for i := range 3 {
		out, err := r.client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blobs[i]}, attempts(2))
		wantSecret(t, i, out, err)
	}
}

// The recipient's key is replaced while calls are in flight, whose attempts
// fail and are repeated: no call is lost for it.
func TestRotationUnderFaults(t *testing.T) {
	const callers = 6
	var hours atomic.Int64
	epoch := time.Now()
	r := newRig(t, kmsclient.Options{RotateEvery: time.Hour, Clock: func() time.Time { return epoch.Add(time.Duration(hours.Load()) * time.Hour) }})
	blobs := make([][]byte, callers)
	for i := range blobs {
		blobs[i] = r.seal(t, i)
	}
	r.cutter.deal(deck(2))
	// The clock goes on by an hour when a key is first seen, but for the last
	// one: so that is in use when the calls end, and none is in the making.
	const keys = 3
	r.documents.seen = func(_, n int) { hours.Store(int64(min(n, keys-1))) }
	var ends tally
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			for {
				_, n := r.documents.made()
				out, err := r.client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blobs[i]}, attempts(20))
				ends.judge(t, t.Context(), i, out, err)
				if n == keys || t.Failed() {
					return
				}
			}
		})
	}
	running.Wait()
	_, met := r.cutter.counts()
	t.Logf("%d plaintexts, %d broken; %d documents, faults %v", ends.right.Load(), ends.channel.Load(), r.count(), met)
	if n := ends.channel.Load(); n != 0 {
		t.Errorf("%d calls failed, with 20 attempts each", n)
	}
	broken := 0
	for _, n := range met {
		broken += n
	}
	if broken == 0 {
		t.Error("no connection was reset")
	}
}
