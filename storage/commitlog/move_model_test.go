//go:build weirtest

package commitlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// The model of a move: real logs of two shards in one bucket, in all orders of the steps of
// the one who moves a partition, of new owners of both shards, who fence earlier ones, of
// the questions that they ask each other, and of appends. From each state all nodes crash,
// and the next owners must find everything that was acknowledged, in one of the shards.

// moveBounds bound the world.
type moveBounds struct{ appends, takeovers int }

// moveRules are broken rules.
type moveRules struct {
	log   Mutations
	early bool // the import is confirmed before its slices have moved out
}

// moveStep is what happens next.
type moveStep string

// The steps. The mover's are moved on by one step, or given up.
const (
	stepAppendFrom moveStep = "append in the first shard"
	stepAppendTo   moveStep = "append in the second shard"
	stepOwnFrom    moveStep = "a new owner of the first shard"
	stepOwnTo      moveStep = "a new owner of the second shard"
	stepMover      moveStep = "the mover goes on"
	stepEarly      moveStep = "the mover confirms too early"
	stepGiveUp     moveStep = "the mover gives up"
	stepAsk        moveStep = "the owner of the second shard asks that of the first"
	stepAct        moveStep = "it acts on the answer"
)

var moveSteps = []moveStep{stepAppendFrom, stepAppendTo, stepOwnFrom, stepOwnTo, stepMover, stepEarly, stepGiveUp, stepAsk, stepAct}

// moveWorld is one world. It is built anew for each path.
type moveWorld struct {
	bounds  moveBounds
	rules   moveRules
	bucket  *mem.Bucket
	opened  []*Log
	from    *Log // newest owners
	to      *Log
	place   state.Place
	move    weir.Move
	acked   []string
	leader  int32 // the highest leader epoch of an acknowledged record
	appends int
	owned   [2]int // takeovers

	mover struct {
		from, to *Log
		stage    int // 0 serving, 1 stopped, 2 exported, 3 imported, 4 moved out, 5 confirmed, 9 over
		export   *Export
	}
	answer struct {
		asked *Log // whose question it was; nil: there is none
		moved bool
	}
}

func newMoveWorld(b moveBounds, rules moveRules) *moveWorld {
	w := &moveWorld{bounds: b, rules: rules, bucket: mem.New()}
	w.from, w.to = w.open(0), w.open(1)
	w.mover.from, w.mover.to = w.from, w.to
	topic, err := w.from.CreateTopic(context.Background(), "t", 1, nil)
	must(err)
	w.place = state.Place{Topic: topic.ID}
	w.move = moveOf(7, 0, 1, w.place)
	must(w.append(w.from))
	return w
}

func (w *moveWorld) open(shard uint32) *Log {
	l, err := Open(context.Background(), options(w.bucket, tidy, func(o *Options) { o.Shard, o.Mutations = shard, w.rules.log }))
	must(err)
	w.opened = append(w.opened, l)
	return l
}

func (w *moveWorld) close() {
	for _, l := range w.opened {
		_ = l.Close()
	}
}

// append appends the next record. What the log refuses is no step.
func (w *moveWorld) append(l *Log) error {
	value := fmt.Sprint("record ", w.appends)
	r := <-send(l, Append{Topic: w.place.Topic, Batch: recordtest.Batch(value)})
	if r.err == nil {
		w.appends++
		w.acked = append(w.acked, value)
		w.leader = max(w.leader, l.LeaderEpoch(w.place.Topic, 0))
	}
	return r.err
}

// errNotNow: the step cannot be made in this state.
var errNotNow = errors.New("not now")

// step makes a step. Its errors say that nothing has happened.
func (w *moveWorld) step(s moveStep) error {
	switch s {
	case stepAppendFrom, stepAppendTo:
		if w.appends > w.bounds.appends {
			return errNotNow
		}
		if s == stepAppendFrom {
			return w.append(w.from)
		}
		return w.append(w.to)
	case stepOwnFrom, stepOwnTo:
		shard := 0
		if s == stepOwnTo {
			shard = 1
		}
		if w.owned[shard] == w.bounds.takeovers {
			return errNotNow
		}
		w.owned[shard]++
		if shard == 0 {
			w.from = w.open(0)
		} else {
			w.to = w.open(1)
		}
		return nil
	case stepMover:
		return w.goOn()
	case stepEarly:
		if !w.rules.early || w.mover.stage != 3 {
			return errNotNow
		}
		w.mover.stage = 9
		return w.mover.to.ConfirmMove(context.Background(), w.move)
	case stepGiveUp:
		return w.giveUp()
	case stepAsk:
		return w.ask()
	}
	return w.act()
}

// goOn makes the next step of the mover, whose shards may have other owners by now: then
// that is the end of it.
func (w *moveWorld) goOn() (err error) {
	ctx, m := context.Background(), &w.mover
	switch m.stage {
	case 0:
		err = m.from.Stop(ctx, w.move)
	case 1:
		m.export, err = m.from.Export(ctx, w.move)
	case 2:
		err = m.to.Import(ctx, w.move, m.export)
	case 3:
		err = m.from.MoveOut(ctx, w.move)
	case 4:
		err = m.to.ConfirmMove(ctx, w.move)
	default:
		return errNotNow
	}
	if m.stage++; err != nil {
		m.stage = 9
	}
	return nil
}

func (w *moveWorld) giveUp() error {
	ctx, m := context.Background(), &w.mover
	if m.stage == 0 || m.stage > 3 {
		return errNotNow
	}
	m.stage = 9
	if moved, err := m.from.Void(ctx, w.move); err == nil && !moved {
		_ = m.to.Cancel(ctx, w.move) // who is fenced does nothing
	}
	return nil
}

func (w *moveWorld) ask() error {
	_, in := w.to.Moves()
	if w.to == w.mover.to || len(in) == 0 || w.answer.asked != nil {
		return errNotNow
	}
	moved, err := w.from.Void(context.Background(), in[0])
	if err == nil {
		w.answer.asked, w.answer.moved = w.to, moved
	}
	return err
}

// act acts on an answer that may be late: its owner may have lost the shard.
func (w *moveWorld) act() error {
	asked := w.answer.asked
	if asked == nil {
		return errNotNow
	}
	w.answer.asked = nil
	end := asked.Cancel
	if w.answer.moved {
		end = asked.ConfirmMove
	}
	if err := end(context.Background(), w.move); err != nil && asked == w.to {
		return fmt.Errorf("the owner cannot act: %w", err)
	}
	return nil
}

// key names the state: worlds with the same key have the same future.
func (w *moveWorld) key() string {
	see := func(l *Log) string {
		l.mu.RLock()
		defer l.mu.RUnlock()
		in := l.state.Arrival(w.move.ID)
		return fmt.Sprint(l.state.IsAway(w.place), in != nil && in.Whole(), l.state.MoveEnded(w.move.ID), l.state.Partition(w.place) != nil && l.state.Partition(w.place).End > 0)
	}
	return fmt.Sprint(w.appends, w.owned, see(w.from), see(w.to), w.mover.stage, w.mover.from == w.from, w.mover.to == w.to,
		w.answer.asked != nil, w.answer.asked == w.to, w.answer.moved)
}

// broken crashes all nodes, lets new owners come to terms, and returns what is broken then.
func (w *moveWorld) broken() string {
	if w.serves(w.from) && w.serves(w.to) {
		return "TWO OWNERS"
	}
	from, to := w.open(0), w.open(1)
	_, in := to.Moves()
	for _, m := range in {
		moved, err := from.Void(context.Background(), m)
		if err == nil && moved {
			err = to.ConfirmMove(context.Background(), m)
		} else if err == nil {
			err = to.Cancel(context.Background(), m)
		}
		if err != nil {
			return fmt.Sprint("DEAD END: ", err)
		}
	}
	var owner *Log
	for _, l := range []*Log{from, to} {
		if !w.serves(l) {
			continue
		}
		if owner != nil {
			return "TWO OWNERS"
		}
		owner = l
	}
	if owner == nil {
		return "LOST: nobody has the partition"
	}
	got, err := owner.values(context.Background(), w.place.Topic, 0)
	if err != nil || !slices.Equal(got, w.acked) {
		return fmt.Sprintf("LOST: %q of %q, %v", got, w.acked, err)
	}
	if r := <-send(owner, Append{Topic: w.place.Topic, Batch: recordtest.Batch("last")}); r.err != nil || r.base != int64(len(got)) {
		return fmt.Sprintf("LOST: an append gets %+v", r)
	}
	if now := owner.LeaderEpoch(w.place.Topic, 0); now <= w.leader {
		return fmt.Sprintf("LEADER EPOCH %d after %d", now, w.leader)
	}
	report, err := check.Check(context.Background(), w.bucket, nil)
	if err != nil || len(report.Problems) > 0 {
		return fmt.Sprint("CHECK: ", report.Problems, err)
	}
	return ""
}

// serves reports whether a log has the partition.
func (w *moveWorld) serves(l *Log) bool {
	_, end, err := l.Bounds(w.place.Topic, 0)
	return err == nil && end > 0
}

// exploreMoves visits all states, the nearest ones first, and returns what is broken in the
// first one that is, and how it came to that.
func exploreMoves(b moveBounds, rules moveRules) (visited int, broken string) {
	seen := make(map[string]bool)
	for queue := [][]moveStep{nil}; len(queue) > 0; queue = queue[1:] {
		path := queue[0]
		for _, s := range moveSteps {
			w := newMoveWorld(b, rules)
			for _, before := range path {
				must(w.step(before))
			}
			err := w.step(s)
			if err != nil && strings.Contains(err.Error(), "cannot act") {
				w.close()
				return visited, fmt.Sprint(err, append(path, s))
			}
			if key := w.key(); err == nil && !seen[key] {
				seen[key] = true
				visited++
				queue = append(queue, append(slices.Clone(path), s))
				if broken := w.broken(); broken != "" {
					w.close()
					return visited, fmt.Sprintf("%s: %q", broken, append(path, s))
				}
			}
			w.close()
		}
	}
	return visited, ""
}

// Whatever the order, nothing that was acknowledged is lost, no two shards have the
// partition, and somebody has it.
func TestMoveModel(t *testing.T) {
	bounds := moveBounds{1, 1}
	if os.Getenv("WEIR_SOAK") == "1" {
		bounds = moveBounds{3, 2}
	}
	visited, broken := exploreMoves(bounds, moveRules{})
	if broken != "" || visited < 100 {
		t.Errorf("after %d states: %s", visited, broken)
	}
	t.Logf("%+v: %d states", bounds, visited)
}

// Without any of the rules something is lost, or is in two shards.
func TestMoveModelNotices(t *testing.T) {
	for name, c := range map[string]struct {
		rules moveRules
		want  string
	}{
		"void is not said":       {moveRules{log: Mutations{VoidUnsaid: true}}, "LOST"},
		"confirmed before moved": {moveRules{early: true}, "TWO OWNERS"},
	} {
		visited, broken := exploreMoves(moveBounds{1, 1}, c.rules)
		if !strings.HasPrefix(broken, c.want) {
			t.Errorf("%s: after %d states: %q", name, visited, broken)
		}
		t.Logf("%s: after %d states: %s", name, visited, broken)
	}
}

// What is in flight when slices are stopped is in the export.
func TestStopWaits(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		b := mem.New()
		g := newGate(b)
		w := &moveWorld{bucket: b, rules: moveRules{log: Mutations{StopAtOnce: atOnce}}}
		from := open(t, g, tidy, func(o *Options) { o.Mutations = w.rules.log })
		w.from, w.to = from, w.open(1)
		w.mover.from, w.mover.to = w.from, w.to
		topic := createTopic(t, from, "t", 1)
		w.place = state.Place{Topic: topic.ID}
		w.move = moveOf(7, 0, 1, w.place)
		must(w.append(from))
		must(from.Separate(t.Context(), w.move.Slices)) // everything lies in segments
		release := g.hold()
		flying := send(from, Append{Topic: topic.ID, Batch: recordtest.Batch("record 1")})
		stopped := make(chan error, 1)
		go func() {
			_ = w.goOn()
			if atOnce {
				_ = w.goOn()
			}
			stopped <- nil
		}()
		if atOnce {
			<-stopped
		}
		release()
		if r := <-flying; r.err != nil {
			t.Fatal(r.err)
		}
		w.acked = append(w.acked, "record 1")
		if !atOnce {
			<-stopped
		}
		for w.mover.stage < 5 {
			must(w.goOn())
		}
		if broken := w.broken(); strings.HasPrefix(broken, "LOST") != atOnce {
			t.Errorf("stopped at once %v: %q", atOnce, broken)
		}
		w.close()
	}
}
