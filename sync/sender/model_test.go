package sender_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
)

var (
	modelSeed = flag.Uint64("model.seed", 0, "run only this schedule of TestModel")
	modelRuns = flag.Int("model.runs", 150, "number of schedules of TestModel")
)

// reading is a record that the gateway accepted.
type reading struct {
	place   string // buffer, lane and sequence
	lane    weir.Lane
	topic   string
	key     string
	bad     bool // the cloud refuses it for good
	damaged bool // lost on the disk after it was accepted
}

// world is one random schedule. The seed gives its steps; how goroutines meet in
// between is not repeated exactly, so a failing seed may need a few runs.
type world struct {
	*rig
	t        *testing.T
	rng      *rand.Rand
	readings []reading
	trouble  bool         // refusals for now, and changing minds
	slow     atomic.Int64 // longest latency, in nanoseconds
	topics   map[string]int32
}

// TestModel runs random schedules of publishing, link cuts, restarts of either
// end, lost slots, growing topics, refusals and damage, and then compares what
// was accepted with what was delivered and reported.
func TestModel(t *testing.T) {
	if *modelSeed != 0 {
		if err := runModel(t, *modelSeed, sender.Mutations{}, receiver.Mutations{}); err != nil {
			t.Fatal(err)
		}
		return
	}
	base := rand.Uint64()
	for i := range uint64(*modelRuns) {
		if err := runModel(t, base+i, sender.Mutations{}, receiver.Mutations{}); err != nil {
			t.Fatalf("-model.seed=%d: %v", base+i, err)
		}
	}
}

func runModel(t *testing.T, seed uint64, sm sender.Mutations, rm receiver.Mutations) (err error) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{rig: newRig(t), t: t, rng: rand.New(rand.NewPCG(seed, 1)), topics: map[string]int32{"a": 2, "b": 1}}
		w.node.Mutations, w.opts.Mutations = rm, sm
		w.opts.Window = 1 << (9 + w.rng.IntN(8))
		w.opts.Batch = 1 << (8 + w.rng.IntN(8))
		w.disk.frame = 1 + w.rng.IntN(20)
		w.startNode()
		for name, n := range w.topics {
			w.log.create(name, n)
		}
		w.log.latency = func() time.Duration { return w.random(time.Duration(w.slow.Load())) }
		w.log.refuse = w.refuse
		w.shape.Latency = func() time.Duration { return w.random(time.Duration(w.slow.Load())) }
		w.start()
		for range 20 + w.rng.IntN(60) {
			w.act()
			time.Sleep(w.random(30 * time.Millisecond))
		}
		w.log.mu.Lock()
		w.trouble = false
		w.slow.Store(0)
		w.log.mu.Unlock()
		w.mu.Lock()
		w.down = false
		w.mu.Unlock()
		if err = w.settle(2 * time.Minute); err == nil {
			err = w.audit()
		}
		w.close()
	})
	return err
}

func (w *world) random(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(rand.Int64N(int64(limit)))
}

// act is one step of the schedule.
func (w *world) act() {
	switch p := w.rng.IntN(100); {
	case p < 60:
		for range 1 + w.rng.IntN(8) {
			w.publish()
		}
	case p < 68:
		w.cut(w.rng.IntN(2) == 0)
	case p < 72:
		w.mu.Lock()
		w.down = !w.down
		w.mu.Unlock()
	case p < 77:
		w.restart()
	case p < 82:
		w.log.crash(w.rng.IntN(4))
	case p < 86:
		w.mu.Lock()
		old := w.recv
		w.mu.Unlock()
		w.startNode()
		old.Close()
	case p < 91:
		if w.topics["a"] < 5 {
			w.topics["a"]++
			w.log.grow("a", w.topics["a"])
		}
	case p < 96:
		w.log.mu.Lock()
		w.trouble = !w.trouble
		w.slow.Store(int64(w.rng.IntN(40)) * int64(time.Millisecond))
		w.log.mu.Unlock()
	default:
		w.tear()
	}
}

func (w *world) publish() {
	r := reading{
		lane:  weir.Lane(w.rng.IntN(weir.Lanes)),
		topic: []string{"a", "a", "b"}[w.rng.IntN(3)],
		key:   fmt.Sprint("k", w.rng.IntN(6)),
		bad:   w.rng.IntN(30) == 0,
	}
	v := strconv.Itoa(len(w.readings))
	if r.bad {
		v += " bad"
	}
	id, seq := w.disk.put(r.lane, r.topic, record.Record{Key: []byte(r.key), Value: []byte(v)})
	r.place = place(id.String(), r.lane.String(), seq)
	w.readings = append(w.readings, r)
}

// tear damages some of what the gateway has not trimmed, while it is off.
func (w *world) tear() {
	w.cut(false)
	w.stop()
	lane := weir.Lane(w.rng.IntN(weir.Lanes))
	w.disk.mu.Lock()
	cur := w.disk.buffers[len(w.disk.buffers)-1]
	l := cur.lanes[lane]
	id := cur.id
	w.disk.mu.Unlock()
	if n := l.last - l.trimmed; n > 0 {
		first := l.trimmed + 1 + w.rng.Uint64N(n)
		last := min(l.last, first+w.rng.Uint64N(4))
		w.disk.damage(lane, first, last)
		for i := range w.readings {
			for s := first; s <= last; s++ {
				if w.readings[i].place == place(id.String(), lane.String(), s) {
					w.readings[i].damaged = true
				}
			}
		}
	}
	w.disk.open()
	w.start()
}

// refuse is the cloud's mind: bad records never, others sometimes not now.
func (w *world) refuse(a uplink.Append, records []record.Record) error {
	if a.Gap {
		if w.trouble && rand.IntN(5) == 0 {
			return uplink.ErrBusy
		}
		return nil
	}
	for _, r := range records {
		if strings.HasSuffix(string(r.Value), " bad") && (!w.trouble || rand.IntN(5) > 0) {
			return uplink.ErrTooLarge
		}
	}
	if w.trouble && rand.IntN(5) == 0 {
		return []error{uplink.ErrBusy, uplink.ErrMoved, uplink.ErrHole}[rand.IntN(3)]
	}
	return nil
}

// audit compares the books as sets.
func (w *world) audit() error {
	seen := make([]int, len(w.readings))
	newest := map[string]int{}
	for _, l := range w.log.records() {
		v, _ := strings.CutSuffix(string(l.record.Value), " bad")
		i, err := strconv.Atoi(v)
		if err != nil {
			return err
		}
		r := w.readings[i]
		if seen[i]++; seen[i] > 1 {
			return fmt.Errorf("reading %d (%s) twice", i, r.place)
		}
		if r.topic != l.topic {
			return fmt.Errorf("reading %d of topic %s in %s", i, r.topic, l.topic)
		}
		order := fmt.Sprint(r.lane, r.topic, r.key)
		if before, ok := newest[order]; ok && before > i {
			return fmt.Errorf("reading %d (%s) after %d (%s)", i, r.place, before, w.readings[before].place)
		}
		newest[order] = i
	}
	exact, some := w.books()
	for i, r := range w.readings {
		switch {
		case seen[i] == 0 && !exact[r.place] && !some[r.place]:
			return fmt.Errorf("reading %d (%s, bad %v, damaged %v) lost", i, r.place, r.bad, r.damaged)
		case seen[i] == 1 && exact[r.place]:
			return fmt.Errorf("reading %d (%s, bad %v, damaged %v) delivered and reported missing", i, r.place, r.bad, r.damaged)
		case (exact[r.place] || some[r.place]) && !r.bad && !r.damaged:
			return fmt.Errorf("reading %d (%s) reported missing without a reason", i, r.place)
		case r.bad && !r.damaged && seen[i] == 0 && w.disk.dead[r.place] == 0:
			return fmt.Errorf("reading %d (%s) is not in the dead letters", i, r.place)
		}
	}
	return nil
}

// books returns the places that were reported missing, for sure and perhaps.
func (w *world) books() (exact, some map[string]bool) {
	exact, some = map[string]bool{}, map[string]bool{}
	for _, g := range w.log.gaps() {
		for _, r := range g.Ranges {
			for s := r[0]; s <= r[1]; s++ {
				into := some
				if g.Exact {
					into = exact
				}
				into[place(g.Buffer, g.Lane, s)] = true
			}
		}
	}
	return exact, some
}
