package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestFaultMatrix gives each call of a takeover each fate, once and three times
// running, and lets late writes land soon, at the end, or never. No single
// fault may stop the journal, lose an entry or let the first owner go on.
func TestFaultMatrix(t *testing.T) {
	clean := &drama{}
	clean.play(t, fault{})
	steps := map[string]int{}
	for _, call := range clean.calls {
		steps[step(call.key)+" "+string(call.verb)]++
	}
	for _, name := range []string{
		"claim create", "header create", "slot create", "slot get", "claims list", "checkpoints list",
		"checkpoint create", "checkpoint get", "checkpoint delete", "tombstone create", "header delete", "slot delete", "closing create",
		"tombstones list", "closings list", "slots list",
	} {
		if steps[name] == 0 {
			t.Errorf("the matrix has no row for %s: %v", name, steps)
		}
	}
	rows := 0
	for _, call := range clean.calls {
		for _, fate := range storagetest.Fates() {
			for _, times := range []int{1, 3} {
				for _, land := range []time.Duration{time.Second, time.Minute, 0} {
					f := fault{call: call, fate: fate, times: times, land: land}
					rows++
					t.Run(f.String(), func(t *testing.T) { (&drama{}).play(t, f) })
				}
			}
		}
	}
	t.Logf("%d rows of %d calls: %v", rows, len(clean.calls), steps)
}

type callName struct {
	who  string
	verb storagetest.Verb
	key  string
}

type fault struct {
	call  callName
	fate  storagetest.Fate
	times int           // how many calls of that name fail
	land  time.Duration // when late writes land; 0: never
}

func (f fault) String() string {
	return fmt.Sprintf("%s-%s-%s-%v-%dx-%v", f.call.who, f.call.verb, f.call.key, f.fate, f.times, f.land)
}

// step names what a key is for.
func step(key string) string {
	switch {
	case key == claimPrefix(3):
		return "claims"
	case key == checkpointPrefix(3):
		return "checkpoints"
	case key == tombstonePrefix(3):
		return "tombstones"
	case key == closingPrefix(3):
		return "closings"
	case strings.HasPrefix(key, closingPrefix(3)):
		return "closing"
	case key == epochPrefix(3, 1) || key == "0003/log/":
		return "slots"
	case strings.HasPrefix(key, claimPrefix(3)):
		return "claim"
	case strings.HasPrefix(key, checkpointPrefix(3)):
		return "checkpoint"
	case strings.HasPrefix(key, tombstonePrefix(3)):
		return "tombstone"
	case key == SlotKey(3, Position{1, 0}) || key == SlotKey(3, Position{2, 0}):
		return "header"
	}
	return "slot"
}

// drama is one takeover: the owner writes five slots, with a checkpoint and a
// deletion after the third, then falls asleep with two more in flight. The second
// node takes over from the checkpoint, writes three slots, and makes a checkpoint
// and a deletion of its own. The first one wakes up. One slot of each epoch is kept, and
// that of the first is removed by the second node.
type drama struct {
	mu    sync.Mutex
	calls []callName // guarded by mu; distinct, in the order of their first time
	hits  int        // guarded by mu
}

func (d *drama) play(t *testing.T, f fault) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{disk: mem.New(), log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()

		way1, s1 := storagetest.NewFaults(w.disk, 1), w.process("one")
		way1.Plan(d.plan("one", f, held3(10*time.Second, Position{1, 6}, Position{1, 7})))
		j1 := d.open(ctx, t, way1, s1, f)
		for k := range 5 {
			if k == 3 {
				d.keep(ctx, t, j1, s1)
			}
			d.write(t, j1, fmt.Sprintf("one.%d", k))
		}
		time.Sleep(5 * time.Second)
		d.write(t, j1, "one.5")
		d.write(t, j1, "one.6")

		way2, s2 := storagetest.NewFaults(w.disk, 2), w.process("two")
		way2.Plan(d.plan("two", f, held3(0)))
		j2 := d.open(ctx, t, way2, s2, f)
		for _, body := range []string{"two.0", "drop 1/2 two.1", "two.2"} {
			d.write(t, j2, body)
		}
		d.keep(ctx, t, j2, s2)
		<-j1.Done()
		if !errors.Is(j1.Err(), ErrFenced) {
			t.Errorf("the first owner stopped with: %v", j1.Err())
		}
		if err := j1.Close(); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if err := j2.Confirm(ctx); err != nil && !errors.Is(err, storagetest.ErrInjected) {
			t.Error(err)
		}
		if err := j2.Close(); err != nil {
			t.Error(err)
		}
		if j1.Checkpointed() != (Position{1, 4}) || j2.Checkpointed() != (Position{2, 4}) {
			t.Errorf("checkpoints %v and %v", j1.Checkpointed(), j2.Checkpointed())
		}
		if len(s1.got) != 5 || s2.recovered != 5 || len(s2.got) != 8 {
			t.Errorf("acknowledged %d, recovered %d, then %d", len(s1.got), s2.recovered, len(s2.got))
		}
		time.Sleep(2 * time.Minute)
		if f.land > 0 {
			w.late = append(w.late, straggler{Faults: way1}, straggler{Faults: way2})
		}
		if w.audit(ctx); len(w.faults) > 0 || w.tally.Kept != 2 {
			t.Error(w.faults, w.tally.Kept)
		}
		// A Get ahead of the hole may be cancelled before it is made.
		ahead := f.call.verb == storagetest.Get && f.call.key > SlotKey(3, Position{1, 6})
		if f.fate != storagetest.Succeed && d.hits == 0 && !ahead {
			t.Error("the call was not made")
		}
	})
}

func (d *drama) open(ctx context.Context, t *testing.T, way *storagetest.Faults, h *history, f fault) *Journal {
	t.Helper()
	if f.land > 0 {
		time.AfterFunc(f.land, func() { way.Land() })
	}
	j, err := Open(ctx, Options{Bucket: way, Shard: 3, Node: h.id, Level: 2, Depth: 2, Window: 3}, h)
	if err != nil {
		t.Fatal(err)
	}
	h.opened(j)
	return j
}

func (d *drama) write(t *testing.T, j *Journal, body string) {
	t.Helper()
	if _, err := j.Write([]Entry{{Kind: 1, Body: []byte(body)}}); err != nil {
		t.Error(err)
	}
}

// keep waits until all is acknowledged, makes a checkpoint and deletes what lies
// before it, but for what is kept: slots 1/0 and 1/1 and then 1/3, or 1/4, 2/0, 2/2 and
// 2/3, and then 1/2.
func (d *drama) keep(ctx context.Context, t *testing.T, j *Journal, h *history) {
	t.Helper()
	time.Sleep(5 * time.Second)
	pos, number := h.save()
	if err := j.Checkpoint(ctx, pos, strconv.AppendInt(nil, int64(number), 10)); err != nil {
		t.Error(err)
	}
	h.w.durable(number)
	for _, before := range []Position{{1, 2}, pos} {
		if err := j.Truncate(ctx, Position{}, before, h.keeps()); err != nil {
			t.Error(err)
		}
	}
	if err := j.Remove(ctx, h.dropped); err != nil {
		t.Error(err)
	}
}

// plan gives the faulty call its fate and all others that of otherwise.
func (d *drama) plan(who string, f fault, otherwise storagetest.Plan) storagetest.Plan {
	return func(c storagetest.Call) storagetest.Outcome {
		name := callName{who, c.Verb, c.Keys[0]}
		d.mu.Lock()
		defer d.mu.Unlock()
		if !slices.Contains(d.calls, name) {
			d.calls = append(d.calls, name)
		}
		o := otherwise(c)
		if name == f.call && d.hits < f.times {
			d.hits++
			o.Fate = f.fate
		}
		return o
	}
}

// held3 is held for shard 3.
func held3(d time.Duration, slots ...Position) storagetest.Plan {
	return func(c storagetest.Call) storagetest.Outcome {
		for _, p := range slots {
			if c.Verb == storagetest.Create && c.Keys[0] == SlotKey(3, p) {
				return storagetest.Outcome{Before: d}
			}
		}
		return storagetest.Outcome{}
	}
}
