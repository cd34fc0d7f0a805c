package txn

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record/recordtest"
)

var errAway = errors.New("shard cannot be reached")

// spanning runs a test with shards, in a bubble of fake time.
func spanning(t *testing.T, shards int, o Options, test func(t *testing.T, r *region)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, shards, o)
		test(t, r)
		r.close()
	})
}

func wants(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func (r *region) state(want State) {
	r.t.Helper()
	if d, err := r.owner(0).txns.Describe(id); err != nil || d.State != want {
		r.t.Errorf("%+v, %v; want %s", d, err, want)
	}
}

func (r *region) wantHeld(want ...string) {
	r.t.Helper()
	for shard, w := range want {
		if got := r.holds(shard); got != w {
			r.t.Errorf("shard %d has %q, want %q", shard, got, w)
		}
	}
}

// TestSpanning: what a transaction has in three shards is committed or aborted in all of
// them, with both versions of the protocol.
func TestSpanning(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		spanning(t, 3, Options{}, func(t *testing.T, r *region) {
			p, sequence := r.begin(nil), int32(0)
			for _, commit := range []bool{true, false, true} {
				if !v2 {
					wants(t, r.owner(0).txns.AddPartitions(t.Context(), id, p, []state.Place{placeIn(0), placeIn(1)}), nil)
					wants(t, r.owner(0).txns.AddPartitions(t.Context(), id, p, []state.Place{placeIn(2)}), nil)
					wants(t, r.owner(0).txns.AddOffsets(t.Context(), id, p, groupIn(2)), nil)
				}
				for shard := range 3 {
					a, b := r.send(shard, p, sequence, "a", v2), r.send(shard, p, sequence+1, "b", v2)
					wants(t, errors.Join(<-a, <-b), nil)
				}
				wants(t, r.offsets(2, p, int64(sequence)+7, v2), nil)
				if _, pending := r.committed(2); !pending {
					t.Error("the offset is not pending")
				}
				r.state(Ongoing)
				next, err := r.end(p, commit, v2)
				wants(t, err, nil)
				if again, err := r.end(p, commit, v2); err != nil || again != next {
					t.Errorf("repeated: %v, %v, want %v", again, err, next)
				}
				if sequence += 2; v2 {
					sequence = 0
				}
				if at, pending := r.committed(2); pending || commit && at < 7 {
					t.Errorf("offset %d, pending %v", at, pending)
				}
				p = next
			}
			r.state(CompleteCommit)
			r.wantHeld("ab+ab-ab+", "ab+ab-ab+", "ab+ab-ab+")
		})
	}
}

// TestAskedAgain: what comes after the coordinator has answered does not get an answer that
// is not true any more, also if what waited for it is only being passed on.
func TestAskedAgain(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p, second := r.begin(nil), make(chan error, 1)
		batch := func(value string) Appended {
			return Appended{ID: id, Append: commitlog.Append{Topic: placeIn(1).Topic, Partition: placeIn(1).Partition, Batch: recordtest.Transactional(p.ID, p.Epoch, 0, value)}}
		}
		r.owner(1).parts.Append(batch("a"), func(_ int64, err error) { // while the participant passes the answer on
			wants(t, err, ErrNotInTransaction)
			wants(t, r.owner(0).txns.AddPartitions(t.Context(), id, p, []state.Place{placeIn(1)}), nil)
			r.owner(1).parts.Append(batch("b"), func(_ int64, err error) { second <- err })
		})
		wants(t, <-second, nil)
		_, err := r.end(p, true, false)
		wants(t, err, nil)
		r.wantHeld("", "b+")
	})
}

// TestOneShard: a transaction of one shard ends in one slot, as without other shards, and
// leaves no number behind.
func TestOneShard(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		wants(t, <-r.send(0, p, 0, "a", true), nil)
		wants(t, r.offsets(0, p, 5, true), nil)
		before := r.disks[0].slots
		_, err := r.end(p, true, true)
		wants(t, err, nil)
		if n := r.disks[0].slots - before; n != 1 {
			t.Errorf("the end took %d slots", n)
		}
		if at, pending := r.committed(0); at != 5 || pending {
			t.Errorf("offset %d, pending %v", at, pending)
		}
		if x := r.owner(0); x.txns.Snapshot()[0] != 1 || x.parts.Snapshot() != nil {
			t.Error("the snapshot is of a later version")
		}
		r.wantHeld("a+", "")
	})
}

// TestAway: while a shard cannot be reached the transaction is decided and not complete.
// The request is to be repeated, nothing new begins, and the next owner goes on.
func TestAway(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		spanning(t, 3, Options{}, func(t *testing.T, r *region) {
			p := r.begin(nil)
			for shard := range 3 {
				wants(t, <-r.send(shard, p, 0, "a", true), nil)
			}
			r.fail(2, errAway)
			_, err := r.end(p, true, true)
			wants(t, err, ErrConcurrent)
			r.state(PrepareCommit)
			if d, err := r.owner(0).txns.Describe(id); err != nil || !slices.Equal(d.Places, []state.Place{placeIn(1), placeIn(2)}) {
				t.Errorf("%+v, %v", d, err)
			}
			r.wantHeld("a+", "a+", "a")
			next := Producer{p.ID, p.Epoch + 1}
			_, err = r.end(p, true, true)
			wants(t, err, ErrConcurrent)
			_, err = r.end(next, false, true)
			wants(t, err, ErrConcurrent)
			_, err = r.owner(0).txns.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute})
			wants(t, err, ErrConcurrent)
			wants(t, r.owner(0).txns.AddPartitions(t.Context(), id, next, []state.Place{placeIn(0)}), ErrConcurrent)
			wants(t, <-r.send(1, next, 0, "b", true), ErrConcurrent)
			if n := r.owner(0).txns.Open(); n != 1 {
				t.Errorf("%d open", n)
			}
			if idle := r.owner(0).txns.idle(1 << 60); len(idle) > 0 {
				t.Error("a decided transaction is idle")
			}
			if takeover {
				r.takeover(0)
			}
			r.fail(2, nil)
			time.Sleep(tellSlowly)
			synctest.Wait()
			r.state(CompleteCommit)
			r.wantHeld("a+", "a+", "a+")
			got, err := r.end(p, true, true)
			if wants(t, err, nil); got != next {
				t.Errorf("next producer %v, want %v", got, next)
			}
			_, err = r.end(p, false, true)
			wants(t, err, ErrInvalidState)
			wants(t, <-r.send(2, next, 0, "b", true), nil)
		})
	}
}

// TestInitAborts: a new producer aborts a transaction in all shards and fences the former
// one there. A request that is repeated while that lasts gets the same answer.
func TestInitAborts(t *testing.T) {
	for _, away := range []bool{false, true} {
		spanning(t, 2, Options{}, func(t *testing.T, r *region) {
			p := r.begin(nil)
			wants(t, <-r.send(1, p, 0, "a", true), nil)
			if away {
				r.fail(1, errAway)
				_, err := r.owner(0).txns.InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute, Expected: &p})
				wants(t, err, ErrConcurrent)
				r.state(PrepareAbort)
				_, err = r.end(p, true, true)
				wants(t, err, ErrFenced)
				r.takeover(0)
				r.fail(1, nil)
				time.Sleep(tellSlowly)
				synctest.Wait()
			}
			next := r.begin(&p)
			if next != (Producer{p.ID, p.Epoch + 1}) {
				t.Errorf("the next producer is %v", next)
			}
			r.state(Empty)
			wants(t, <-r.send(1, p, 1, "b", true), ErrFenced)
			wants(t, <-r.send(1, next, 0, "c", true), nil)
			r.wantHeld("", "a-c")
		})
	}
}

// TestSpanningTimeout: a transaction that times out is aborted in all shards, and its
// producer is fenced there.
func TestSpanningTimeout(t *testing.T) {
	var ended []Ending
	spanning(t, 2, Options{Ended: func(e Ending) { ended = append(ended, e) }}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		wants(t, <-r.send(1, p, 0, "a", true), nil)
		wants(t, r.offsets(1, p, 3, true), nil)
		time.Sleep(minute + time.Second)
		synctest.Wait()
		r.state(CompleteAbort)
		r.wantHeld("", "a-")
		if at, pending := r.committed(1); at != none || pending {
			t.Errorf("offset %d, pending %v", at, pending)
		}
		wants(t, <-r.send(1, p, 1, "b", true), ErrFenced)
		_, err := r.end(p, true, true)
		wants(t, err, ErrFenced)
		if !slices.Equal(ended, []Ending{TimedOut}) {
			t.Errorf("ended %v", ended)
		}
	})
}

// TestLines: batches that come while the coordinator is asked keep their order, and so do
// those that come right behind the answer.
func TestLines(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		release := r.hold(0)
		var answers []chan error
		for i, value := range []string{"a", "b", "c"} {
			answers = append(answers, r.send(1, p, int32(i), value, true))
		}
		synctest.Wait()
		r.wantHeld("", "")
		release()
		answers = append(answers, r.send(1, p, 3, "d", true))
		for _, a := range answers {
			wants(t, <-a, nil)
		}
		r.fail(0, errAway) // the answer is known
		wants(t, <-r.send(1, p, 4, "e", true), nil)
		r.wantHeld("", "abcde")
		wants(t, r.offsets(1, p, 1, true), ErrUnavailable)
		r.fail(0, nil)
		_, err := r.end(p, true, true)
		wants(t, err, nil)
		r.wantHeld("", "abcde+")
		next := Producer{p.ID, p.Epoch + 1}
		r.fail(0, errAway)
		wants(t, <-r.send(1, next, 0, "f", true), ErrUnavailable)
	})
}

// TestVerify: the coordinator's answers to a shard that asks.
func TestVerify(t *testing.T) {
	spanning(t, 2, Options{MaxBytes: 3 * placeSize}, func(t *testing.T, r *region) {
		c, p := r.owner(0).txns, r.begin(nil)
		verify := func(p Part) (uint64, error) { return c.Verify(t.Context(), p) }
		part := Part{ID: id, Producer: p, Place: placeIn(1)}
		for what, x := range map[string]struct {
			part Part
			want error
		}{
			"not added":  {part, ErrNotInTransaction},
			"nobody":     {Part{ID: "x", Producer: p, Implicit: true}, ErrUnknownID},
			"no id":      {Part{Producer: p, Implicit: true}, ErrInvalidID},
			"old epoch":  {Part{ID: id, Producer: Producer{p.ID, p.Epoch - 1}, Implicit: true}, ErrFenced},
			"another id": {Part{ID: id, Producer: Producer{p.ID + 1, p.Epoch}, Implicit: true}, ErrUnknownID},
		} {
			if n, err := verify(x.part); !errors.Is(err, x.want) {
				t.Errorf("%s: %d, %v, want %v", what, n, err, x.want)
			}
		}
		wants(t, c.AddPartitions(t.Context(), id, p, []state.Place{placeIn(1)}), nil)
		part.Implicit = true
		for range 2 {
			if n, err := verify(part); n != 1 || err != nil {
				t.Errorf("number %d, %v", n, err)
			}
		}
		if n, err := verify(Part{ID: id, Producer: p, Group: "g", Implicit: true}); n != 1 || err != nil {
			t.Errorf("number %d, %v", n, err)
		}
		_, err := verify(Part{ID: id, Producer: p, Place: b0, Implicit: true})
		wants(t, err, nil)
		_, err = verify(Part{ID: id, Producer: p, Place: a0, Implicit: true})
		wants(t, err, ErrTooLarge)
		_, err = r.end(p, false, false)
		wants(t, err, nil)
		if n, err := verify(part); n != 2 || err != nil {
			t.Errorf("number %d, %v", n, err)
		}
		r.takeover(0)
		c = r.owner(0).txns
		if n, err := verify(part); n != 2 || err != nil {
			t.Errorf("number %d of another owner, %v", n, err)
		}
	})
}

// TestDecisions: an end that is repeated, old or late does nothing.
func TestDecisions(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		x := r.owner(1).parts
		first := Decision{Producer: p, Number: 1, Commit: true, Places: []state.Place{placeIn(1)}}
		wants(t, <-r.send(1, p, 0, "a", true), nil)
		wants(t, r.offsets(1, p, 1, true), nil)
		_, err := r.end(p, false, false)
		wants(t, err, nil)
		wants(t, x.End(t.Context(), first), nil)
		wants(t, <-r.send(1, p, 1, "b", true), nil)
		wants(t, r.offsets(1, p, 2, true), nil)
		wants(t, x.End(t.Context(), first), nil)
		if at, pending := r.committed(1); at != none || !pending {
			t.Errorf("offset %d, pending %v", at, pending)
		}
		r.takeover(1)
		wants(t, r.owner(1).parts.End(t.Context(), first), nil)
		r.wantHeld("", "a-b")
		wants(t, x.End(t.Context(), first), ErrClosed)
		_, err = r.end(p, true, false)
		wants(t, err, nil)
		if at, pending := r.committed(1); at != 2 || pending {
			t.Errorf("offset %d, pending %v", at, pending)
		}
		r.wantHeld("", "a-b+")
	})
}

// TestTooManyOffsets: what is staged has a limit in its shard.
func TestTooManyOffsets(t *testing.T) {
	spanning(t, 2, Options{MaxBytes: 300}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		wants(t, r.offsets(1, p, 1, true), nil)
		wants(t, r.offsets(1, p, 2, true), ErrTooLarge)
		_, err := r.end(p, true, true)
		wants(t, err, nil)
		if at, pending := r.committed(1); at != 1 || pending {
			t.Errorf("offset %d, pending %v", at, pending)
		}
	})
}

// TestForgotten: a shard forgets producers that have ended nothing for long, but not while
// offsets are staged.
func TestForgotten(t *testing.T) {
	spanning(t, 2, Options{Expiry: 48 * time.Hour, MaxTimeout: 24 * 10 * time.Hour}, func(t *testing.T, r *region) {
		init := InitRequest{ID: id, Timeout: 240 * time.Hour}
		p, err := r.owner(0).txns.InitProducerID(t.Context(), init)
		wants(t, err, nil)
		wants(t, <-r.send(1, p, 0, "a", true), nil)
		_, err = r.end(p, true, false)
		wants(t, err, nil)
		wants(t, r.offsets(1, p, 5, true), nil)
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		if r.owner(1).parts.Snapshot() == nil {
			t.Error("forgotten while offsets are staged")
		}
		_, err = r.end(p, true, false)
		wants(t, err, nil)
		if at, _ := r.committed(1); at != 5 {
			t.Errorf("offset %d", at)
		}
		time.Sleep(72 * time.Hour)
		synctest.Wait()
		if x := r.owner(1).parts; x.Snapshot() != nil || len(x.producers) != 0 {
			t.Errorf("%d producers are remembered", len(x.producers))
		}
		r.takeover(1)
		if x := r.owner(1).parts; len(x.producers) != 0 {
			t.Errorf("%d producers are remembered by the next owner", len(x.producers))
		}
	})
}

// TestClosedParticipant: requests that wait for the coordinator end with the ownership.
func TestClosedParticipant(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		release := r.hold(0)
		answer := r.send(1, p, 0, "a", true)
		synctest.Wait()
		wants(t, r.owner(1).parts.Close(), nil)
		wants(t, <-answer, ErrUnavailable)
		release()
		wants(t, <-r.send(1, p, 0, "a", true), ErrClosed)
		wants(t, r.offsets(1, p, 1, true), ErrClosed)
		if _, err := New(Options{}).Verify(context.Background(), Part{ID: id}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// TestRestoreParticipant: a state has one encoding, and damage is found.
func TestRestoreParticipant(t *testing.T) {
	spanning(t, 2, Options{}, func(t *testing.T, r *region) {
		p := r.begin(nil)
		wants(t, <-r.send(1, p, 0, "a", true), nil)
		_, err := r.end(p, true, false)
		wants(t, err, nil)
		wants(t, errors.Join(r.offsets(1, p, 5, true), r.offsets(1, p, 6, true)), nil)
		body := r.owner(1).parts.Snapshot()
		same := NewParticipant(Options{})
		if err := same.Restore(body); err != nil || !bytes.Equal(same.Snapshot(), body) || same.producers[p.ID].size != r.owner(1).parts.producers[p.ID].size {
			t.Errorf("restore: %v", err)
		}
		for n := 1; n < len(body); n++ {
			wants(t, NewParticipant(Options{}).Restore(body[:n]), ErrCorrupt)
		}
		for i := range body {
			for bit := range 8 {
				damaged := slices.Clone(body)
				damaged[i] ^= 1 << bit
				strictParticipant(t, damaged)
			}
		}
		for _, e := range r.disks[1].entries {
			if !slices.Contains(same.Kinds(), e.Kind) {
				continue
			}
			for n := range e.Body {
				wants(t, NewParticipant(Options{}).Apply(e.Kind, e.Body[:n]), ErrCorrupt)
			}
		}
		for _, e := range r.disks[1].entries { // they have been
			if slices.Contains(same.Kinds(), e.Kind) && e.Kind == kindEnded {
				wants(t, same.Apply(e.Kind, e.Body), ErrCorrupt)
			}
		}
	})
}

func strictParticipant(t *testing.T, body []byte) {
	t.Helper()
	p := NewParticipant(Options{})
	if err := p.Restore(body); err != nil {
		wants(t, err, ErrCorrupt)
	} else if len(body) > 0 && !bytes.Equal(p.Snapshot(), body) {
		t.Fatalf("%x is restored and becomes %x", body, p.Snapshot())
	}
}

func FuzzRestoreParticipant(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 2, 5, 8, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) { strictParticipant(t, body) })
}

func FuzzApplyParticipant(f *testing.F) {
	f.Add(kindEnded, appendNumber(1, 2, 3))
	f.Add(kindStaged, appendNumber(1, 2, 3))
	f.Add(kindForgot, []byte{1, 1, 2, 2})
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		p := NewParticipant(Options{})
		if err := p.Apply(kindEnded, appendNumber(1, 1, 1)); err != nil {
			t.Fatal(err)
		}
		if err := p.Apply(kind, body); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		strictParticipant(t, p.Snapshot())
	})
}
