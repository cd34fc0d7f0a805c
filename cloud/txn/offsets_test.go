package txn

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog/state"
)

func (w world) pending(want ...state.Place) {
	w.t.Helper()
	got := w.Pending("g")
	for _, p := range want {
		if _, ok := got[group.Partition{Topic: p.Topic, Index: p.Partition}]; !ok {
			w.t.Errorf("%v is not pending", p)
		}
	}
	if len(got) != len(want) {
		w.t.Errorf("%d are pending, want %d", len(got), len(want))
	}
}

func TestCommitOffsets(t *testing.T) {
	for _, commit := range []bool{true, false} {
		run(t, Options{}, func(w world) {
			p := w.begin(nil)
			w.want(w.offsets(p, false, 1, a0), ErrNotInTransaction)
			w.want(w.AddOffsets(t.Context(), id, p, "g"), nil)
			w.want(w.AddOffsets(t.Context(), id, p, ""), ErrInvalidID)
			w.is(Ongoing, p)
			w.pending()
			w.want(w.offsets(p, false, 1, a0, a1), nil)
			w.want(w.offsets(p, false, 2, a0), nil)
			w.pending(a0, a1)
			if got := w.committed(a0); got != none {
				t.Errorf("offset %d is seen before the end", got)
			}
			_, err := w.end(p, commit, false)
			w.want(err, nil)
			w.pending()
			want := map[state.Place]int64{a0: none, a1: none}
			if commit {
				want = map[state.Place]int64{a0: 2, a1: 1}
			}
			for place, offset := range want {
				if got := w.committed(place); got != offset {
					t.Errorf("commit %v: offset %d of %v, want %d", commit, got, place, offset)
				}
			}
			w.marked()
		})
	}
}

// The offsets are there as soon as they are not pending any more.
func TestPendingUntilCommitted(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.j.hold(true)
		answer := make(chan error, 1)
		go func() { answer <- w.offsets(p, true, 5, a0) }()
		synctest.Wait()
		w.pending(a0) // though not durable: the group has agreed
		w.j.hold(false)
		w.want(<-answer, nil)
		w.pending(a0)
		if _, err := w.end(p, true, true); err != nil {
			t.Error(err)
		}
		last := w.j.slots[len(w.j.slots)-1]
		if len(last) != 2 || last[0].Kind != 100 || last[1].Kind != kindEnd {
			t.Errorf("the end's slot is %v", last)
		}
	})
}

func TestOffsetsAreRefused(t *testing.T) {
	run(t, Options{MaxBytes: 10_000}, func(w world) {
		p := w.begin(nil)
		request := func(change func(*OffsetsRequest)) ([]error, error) {
			r := OffsetsRequest{ID: id, Producer: p, Implicit: true, Commit: group.CommitRequest{Group: "g", Generation: -1, Offsets: []group.Offset{
				{Partition: group.Partition{Topic: topicA}, Offset: 1}, {Partition: group.Partition{Topic: topicB}, Offset: 2},
			}}}
			change(&r)
			return w.CommitOffsets(t.Context(), r)
		}
		for _, test := range []struct {
			change func(*OffsetsRequest)
			want   error
		}{
			{func(r *OffsetsRequest) { r.Producer.Epoch++ }, ErrFenced},
			{func(r *OffsetsRequest) { r.Producer.ID++ }, ErrUnknownID},
			{func(r *OffsetsRequest) { r.Commit.Generation = 3 }, group.ErrIllegalGeneration},
			{func(r *OffsetsRequest) { r.Commit.Group = "" }, group.ErrInvalidGroup},
			{func(r *OffsetsRequest) { r.Commit.Group = strings.Repeat("g", 10_000) }, ErrTooLarge},
			{func(r *OffsetsRequest) { r.Commit.Offsets[0].Metadata = strings.Repeat("x", 10_000) }, ErrTooLarge},
		} {
			_, err := request(test.change)
			w.want(err, test.want)
			w.pending()
			w.is(Empty, p)
		}
		errs, err := request(func(r *OffsetsRequest) { r.Commit.Offsets[0].Metadata = strings.Repeat("x", 5_000) })
		if err != nil || !errors.Is(errs[0], group.ErrMetadataTooLarge) || errs[1] != nil {
			t.Errorf("%v, %v", errs, err)
		}
		w.pending(b0)
		if w.ids[id].reserved != 0 || w.ids[id].inFlight != 0 {
			t.Errorf("left over: %+v", w.ids[id])
		}
	})
}

// Offsets of a topic that was deleted meanwhile are not committed.
func TestTopicIsGone(t *testing.T) {
	run(t, Options{}, func(w world) {
		p := w.begin(nil)
		w.want(w.offsets(p, true, 5, a0, b0), nil)
		w.j.mu.Lock()
		delete(w.j.topics, topicB)
		w.j.mu.Unlock()
		_, err := w.end(p, true, false)
		w.want(err, nil)
		if a, b := w.committed(a0), w.committed(b0); a != 5 || b != none {
			t.Errorf("committed %d and %d", a, b)
		}
	})
}
