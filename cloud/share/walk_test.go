package share

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/record/recordtest"
)

// told is what the members and the test know of one record.
type told struct {
	wanted    bool // it is a record that must be delivered, unless it is done
	done      bool // a verdict that ends it was confirmed
	perhaps   bool // such a verdict may be durable
	rejected  bool // a verdict Reject may be
	dead      bool // a verdict Reject was confirmed
	delivered int  // times
	count     int  // of the last delivery
	holder    string
	until     time.Time // it is acquired at least until then
}

// walker drives members through random lives, and owners too.
type walker struct {
	*world
	random  *rand.Rand
	what    string
	lock    time.Duration
	limit   int
	records []told // by offset
	start   int64
	crashed int // times
	epoch   int16

	mu       sync.Mutex
	answered []func() // what answers to acknowledgements mean; guarded by mu
}

// hear takes in the answers that have come.
func (k *walker) hear() {
	k.mu.Lock()
	answered := k.answered
	k.answered = nil
	k.mu.Unlock()
	for _, means := range answered {
		means()
	}
}

// TestWalk: what was acknowledged is never delivered again, what was not is, to one
// member at a time and at most as often as the limit says; and the count of a delivery
// is its number, or after crashes not less.
func TestWalk(t *testing.T) {
	for seed := range uint64(80) {
		s := Settings{Earliest: true, Committed: true, Lock: time.Second, Deliveries: 3, Locks: 40}
		if seed%3 > 0 {
			s.DeadLetters, s.CopyDead = "dlq.t", true
		}
		run(t, seed, s, func(w *world) {
			k := &walker{world: w, random: rand.New(rand.NewPCG(seed, 1)), what: fmt.Sprint("seed ", seed), lock: s.Lock, limit: s.Deliveries}
			for range 250 {
				k.step(seed%4 != 0)
			}
			k.drain()
		})
	}
}

func (k *walker) step(crashes bool) {
	member := fmt.Sprint("m", k.random.IntN(3))
	switch n := k.random.IntN(20); {
	case n < 3:
		k.produce()
	case n < 9:
		k.acquireFor(member, 1+k.random.IntN(12))
	case n < 15:
		k.acknowledge(member)
	case n < 17:
		time.Sleep(time.Duration(k.random.IntN(400)) * time.Millisecond)
	case n == 17:
		k.leave(member)
	case n == 18 && k.random.IntN(3) == 0 && k.start < int64(len(k.records)):
		k.truncate()
	case n == 19 && crashes && k.random.IntN(2) == 0:
		k.crash()
		k.crashed++
		for i := range k.records {
			k.records[i].holder = ""
		}
	}
}

func (k *walker) produce() {
	values := make([]string, 1+k.random.IntN(6))
	for i := range values {
		values[i] = "v"
	}
	wanted, marker := true, 1
	switch k.random.IntN(4) {
	case 0:
		k.epoch++
		wanted = k.random.IntN(2) == 0
		k.transaction(7, k.epoch, wanted, values...)
	default:
		k.append(recordtest.Batch(values...))
		marker = 0
	}
	for range values {
		k.records = append(k.records, told{wanted: wanted})
	}
	for range marker {
		k.records = append(k.records, told{})
	}
}

func (k *walker) acquireFor(member string, records int) (got int) {
	k.hear()
	began := time.Now()
	for _, d := range k.world.acquire(member, records) {
		for o := d.First; o <= d.Last; o++ {
			r := &k.records[o]
			r.delivered++
			switch {
			case !r.wanted || r.done || o < k.start:
				k.t.Fatalf("%s: record %d is delivered: %+v", k.what, o, *r)
			case r.holder != "" && began.Before(r.until):
				k.t.Fatalf("%s: record %d is delivered to %s and is %s's", k.what, o, member, r.holder)
			case d.Count < r.delivered || k.crashed == 0 && d.Count > r.delivered || d.Count > r.delivered+k.crashed:
				k.t.Fatalf("%s: delivery %d of record %d has count %d, after %d crashes", k.what, r.delivered, o, d.Count, k.crashed)
			case r.count >= k.limit && d.Count > k.limit+k.crashed:
				k.t.Fatalf("%s: delivery %d of record %d, the limit is %d", k.what, d.Count, o, k.limit)
			}
			r.holder, r.until, r.count = member, began.Add(k.lock), d.Count
			got++
		}
	}
	return got
}

// acknowledge has a member judge a row of the records that it believes to have.
func (k *walker) acknowledge(member string) {
	has := func(o int64) bool { return k.records[o].holder == member }
	var first int64
	for first = k.start; first < int64(len(k.records)) && (!has(first) || k.random.IntN(3) == 0); first++ {
	}
	if first == int64(len(k.records)) {
		return
	}
	last := first
	for last+1 < int64(len(k.records)) && has(last+1) && k.random.IntN(6) > 0 {
		last++
	}
	v := []Verdict{Accept, Accept, Release, Reject, Renew}[k.random.IntN(5)]
	began := time.Now()
	rows := k.records[first : last+1]
	over := slices.ContainsFunc(rows, func(r told) bool { return !began.Before(r.until) })
	ends := v == Accept || v == Reject
	for i := range rows {
		rows[i].perhaps = rows[i].perhaps || ends
		rows[i].rejected = rows[i].rejected || v == Reject
		if v == Renew {
			rows[i].until = began.Add(k.lock)
		} else {
			rows[i].holder = ""
		}
	}
	owner := k.crashed
	k.Acknowledge(k.place(), member, []Acknowledgement{{first, last, []Verdict{v}}}, func(err error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.answered = append(k.answered, func() { k.answer(first, last, v, over, owner, err) })
	})
	if over && v == Renew { // whether it was renewed is not known
		for i := range rows {
			rows[i].holder = ""
		}
	}
	if k.random.IntN(2) == 0 {
		time.Sleep(200 * time.Millisecond)
	}
}

// answer takes in what became of an acknowledgement by that owner. over: the member may
// have been too late.
func (k *walker) answer(first, last int64, v Verdict, over bool, owner int, err error) {
	switch {
	case err == nil:
		for o := first; o <= last; o++ {
			k.records[o].done = k.records[o].done || v == Accept || v == Reject
			k.records[o].dead = k.records[o].dead || v == Reject
		}
	case errors.Is(err, ErrInvalidState) && !over:
		k.t.Errorf("%s: records %d to %d are refused: %v", k.what, first, last, err)
	case !errors.Is(err, ErrInvalidState) && owner == k.crashed && !gone(err):
		k.t.Errorf("%s: %v", k.what, err)
	}
}

func (k *walker) leave(member string) {
	done := make(chan error, 1)
	k.Leave("g", member, func(err error) { done <- err })
	k.want(<-done, nil)
	for i := range k.records {
		if k.records[i].holder == member {
			k.records[i].holder = ""
		}
	}
}

func (k *walker) truncate() {
	to := k.start + k.random.Int64N(min(5, int64(len(k.records))-k.start)+1)
	_, err := k.log.DeleteRecords(k.t.Context(), k.topic, 0, to)
	k.want(err, nil)
	k.start = to
}

// drain lets one member take all that is left, after the leases of the others are over.
func (k *walker) drain() {
	k.produce()
	for range 6 {
		time.Sleep(2 * k.lock)
		for k.acquireFor("last", 0) > 0 {
			for o := range k.records {
				if r := &k.records[o]; r.holder == "last" && int64(o) >= k.start {
					k.want(k.ack("last", int64(o), int64(o), Accept), nil)
					r.holder, r.done = "", true
				}
			}
		}
	}
	time.Sleep(time.Second)
	k.hear()
	for o, r := range k.records {
		if r.wanted && int64(o) >= k.start && !r.done && !r.perhaps && r.count < k.limit {
			k.t.Errorf("%s: record %d is lost: %+v", k.what, o, r)
		}
	}
	k.auditLetters()
	if o := k.offsets(); o.Start != int64(len(k.records)) || o.Lag != 0 {
		k.t.Errorf("%s: the group is at %+v of %d", k.what, o, len(k.records))
	}
	durable := k.Manager.state.Partition(k.place())
	if p := k.groups["g"][topicPart{k.topic, 0}]; len(p.leases) > 0 || len(durable.Runs) > 0 {
		k.t.Errorf("%s: %v and %v are left", k.what, p.leases, durable.Runs)
	}
}
