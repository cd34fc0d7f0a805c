package queue

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
)

// TestPrompt: consumers get what they have room for before it can expire or be too much;
// only the rest does, or is.
func TestPrompt(t *testing.T) {
	for name, change := range map[string]func(*state.Settings){
		"expires at once": func(q *state.Settings) { q.TTL = 0 },
		"no length":       func(q *state.Settings) { q.MaxLength = 0 },
		"no bytes":        func(q *state.Settings) { q.MaxBytes = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, mem.New())
				s.declare("dead", nil)
				s.declare("q", func(q *state.Settings) { change(q); deadTo("dead")(q) })
				c := s.consume("q", 3)
				s.publish("q", numbered(5)...)
				got := c.expect("0", "1", "2")
				synctest.Wait()
				s.consume("dead", 0).expect("3", "4")
				c.settle(Accept, got[0])
				s.publish("q", "5", "6")
				last := c.expect("5")
				time.Sleep(time.Second)
				synctest.Wait()
				// What goes back is late, or too much.
				c.settle(Release, got[1], last[0])
				synctest.Wait()
				if n := s.left("q"); n != 1 {
					t.Errorf("%d messages are left, want 1 that the consumer has", n)
				}
				s.end()
			})
		})
	}
}

// TestPromptNotRejected: a queue that rejects what is too much takes what its consumers
// have room for.
func TestPromptNotRejected(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", func(q *state.Settings) { q.MaxLength, q.Overflow = 2, state.RejectPublish })
	c := s.consume("q", 3)
	w := Work{Publications: make([]Publication, 7)}
	for i := range w.Publications {
		w.Publications[i] = Publication{Key: "q"}
	}
	outcomes, err := s.submit(w)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range outcomes {
		if (got == nil) != (i < 5) {
			t.Errorf("publication %d: %v", i, got)
		}
	}
	c.expect("", "", "")
}

// TestExpireBehindGet: what has expired goes when it comes to the front, also when a
// client takes the message before it one by one.
func TestExpireBehindGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		if _, err := s.submit(Work{Publications: []Publication{{Key: "q", Body: []byte("stays")}, {Key: "q", Body: []byte("goes"), Properties: properties(0, 0, 20)}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if d, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); !ok || err != nil || string(d.Body) != "stays" {
			t.Fatalf("%q, %v, %v", d.Body, ok, err)
		}
		synctest.Wait()
		if n := s.left("q"); n != 1 {
			t.Errorf("%d messages are left, want the one that the client has", n)
		}
		s.end()
	})
}

// TestParseExpiration: what the door accepts is a time to live.
func TestParseExpiration(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "+5": 5 * time.Millisecond, "-0": 0, "4294967295": 4294967295 * time.Millisecond} {
		if got, ok := parseExpiration(text); !ok || got != want {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "+", "--1", "soon", "1.5"} {
		if got, ok := parseExpiration(text); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}
