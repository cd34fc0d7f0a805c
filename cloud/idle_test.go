package cloud

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
)

// TestIdle: a node ends when nobody has used it for the time and it is tidy, no earlier.
// Questions to its own doors are no use, and hide none.
func TestIdle(t *testing.T) {
	const after = time.Minute
	for name, c := range map[string]struct {
		play    func(used, own, spare, untidy *atomic.Bool)
		atLeast time.Duration // from the start, less one look; 0: it never ends
	}{
		"unused": {func(_, _, _, _ *atomic.Bool) {}, after},
		"a client for a while": {func(used, _, _, _ *atomic.Bool) {
			time.Sleep(30 * time.Second)
			used.Store(true)
			time.Sleep(40 * time.Second)
			used.Store(false)
		}, 70*time.Second + after},
		"a client all the time": {func(used, _, _, _ *atomic.Bool) { used.Store(true) }, 0},
		"a client behind its own questions": {func(used, own, _, _ *atomic.Bool) {
			used.Store(true)
			for range 300 {
				own.Store(true)
				time.Sleep(idleStep)
				own.Store(false)
				time.Sleep(2 * idleStep)
			}
		}, 0},
		"its own questions": {func(used, own, _, _ *atomic.Bool) {
			for range 100 {
				own.Store(true)
				used.Store(true)
				time.Sleep(idleStep / 2)
				used.Store(false)
				own.Store(false)
				time.Sleep(5 * idleStep)
			}
		}, after},
		"others need it": {func(_, _, spare, _ *atomic.Bool) {
			spare.Store(false)
			time.Sleep(5 * time.Minute)
			spare.Store(true)
		}, 5 * time.Minute},
		"not tidy": {func(_, _, _, untidy *atomic.Bool) {
			untidy.Store(true)
			time.Sleep(3 * after / 2)
			untidy.Store(false)
		}, 2 * after},
		"a client while it tidies up": {func(used, _, _, untidy *atomic.Bool) {
			untidy.Store(true)
			time.Sleep(after + after/2)
			used.Store(true)
			untidy.Store(false)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var used, own, spare, untidy atomic.Bool
				spare.Store(true)
				i := idleness{after: after, clients: used.Load, behind: func() bool { return false }, own: own.Load, spare: spare.Load, tidy: func(context.Context) error {
					if untidy.Load() {
						return errors.New("the bucket is slow")
					}
					return nil
				}}
				began := time.Now()
				var playing sync.WaitGroup
				defer playing.Wait()
				playing.Go(func() { c.play(&used, &own, &spare, &untidy) })
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
				defer cancel()
				ended := i.await(ctx)
				took := time.Since(began)
				if ended != (c.atLeast > 0) || ended && (took < c.atLeast-idleStep || took > c.atLeast+2*time.Second) {
					t.Errorf("ended %v after %v, want about %v", ended, took, c.atLeast)
				}
			})
		})
	}
}

// TestIdleBehind: queues that lack records keep a node. Other nodes are not asked about that
// before all else has been idle for the time.
func TestIdleBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Minute
		var asked []time.Duration
		began := time.Now()
		behind := func() bool {
			asked = append(asked, time.Since(began))
			return len(asked) < 3
		}
		no, yes := func() bool { return false }, func() bool { return true }
		i := idleness{after: after, clients: no, behind: behind, own: no, spare: yes, tidy: func(context.Context) error { return nil }}
		if !i.await(t.Context()) {
			t.Error("it does not end")
		}
		if len(asked) != 4 || asked[0] < after || asked[1] < 2*after || asked[2] < 3*after || asked[3] != asked[2] {
			t.Errorf("it asks after %v", asked)
		}
	})
}

// TestIdleNode: a node whose client has gone ends with ErrIdle. Its log is closed, and the
// next start has nothing to read again. Health, metrics and its own questions to its doors
// do not keep it.
func TestIdleNode(t *testing.T) {
	n := openNode(t, bucketOf(t, 1), "n", t.TempDir(), func(o *Options) { o.IdleExit = 500 * time.Millisecond })
	client, err := net.Dial("tcp", n.self.Address(cluster.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	n.run(t)
	n.says(t, "leading")
	if _, err := n.shards.get(0).Log.CreateTopic(t.Context(), "readings", 1, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client counts", n.used)
	if err := n.Alive(t.Context()); err != nil {
		t.Error(err)
	}
	client.Close()
	<-n.ended
	if !errors.Is(*n.err, ErrIdle) {
		t.Errorf("the node ended with %v", *n.err)
	}
	again := startNode(t, n.o.Bucket, "n")
	again.says(t, "leading")
	if waiting := again.shards.get(0).Log.Stats().Waiting; waiting > 1<<10 {
		t.Errorf("the next start has read %d bytes again", waiting)
	}
}

// TestUse: requests at the admin port are a use of the node, but for health and metrics.
func TestUse(t *testing.T) {
	var u use
	var during int64
	h := u.handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { during = u.requests.Load() }))
	for path, want := range map[string]int64{"/healthz": 0, "/readyz": 0, "/metrics": 0, "/": 1, "/v1/topics": 1} {
		u.latest.Store(0)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		if during != want || u.requests.Load() != 0 || (u.latest.Load() > 0) != (want > 0) {
			t.Errorf("%s: %d requests while it is answered, then %d", path, during, u.requests.Load())
		}
	}
	end := u.ask()
	if !u.own() {
		t.Error("a question to an own door is not noticed")
	}
	end()
	if !u.own() {
		t.Error("nor is one that has just ended")
	}
	u.asked.Store(time.Now().Add(-idleStep).UnixNano())
	if u.own() {
		t.Error("one that ended a while ago is still there")
	}
}
