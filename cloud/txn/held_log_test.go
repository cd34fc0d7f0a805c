package txn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// heldLog is a Log that lands what is in line at once, or when it is let go, in
// the order in which it came. It watches over what must hold in a log.
type heldLog struct {
	t      *testing.T
	c      *Coordinator
	groups *group.Coordinator

	order sync.Mutex // held while something lands

	mu      sync.Mutex
	line    []func(error)
	held    bool
	fail    error // of everything
	ids     int64
	topics  map[weir.TopicID]bool
	slots   [][]commitlog.Command // that have landed
	markers []marker
	open    map[state.Place]map[int64]int16 // data of producers without a marker behind it, by epoch
	fences  map[int64]int16                 // lowest epoch of a producer that may write
	data    int
}

type marker struct {
	state.Place
	Producer
	commit bool
}

func newHeldLog(t *testing.T, c *Coordinator, groups *group.Coordinator) *heldLog {
	return &heldLog{
		t: t, c: c, groups: groups, ids: 1000,
		topics: map[weir.TopicID]bool{topicA: true, topicB: true},
		open:   make(map[state.Place]map[int64]int16),
		fences: make(map[int64]int16),
	}
}

var (
	topicA = weir.TopicID{1}
	topicB = weir.TopicID{2}
	errLog = errors.New("log has ended")
)

// Topics is for members of consumer groups, of whom there are none here.
func (j *heldLog) Topics() []state.Topic { return nil }

func (j *heldLog) Level() int { return 1 }

func (j *heldLog) push(land func(error)) {
	j.mu.Lock()
	j.line = append(j.line, land)
	held := j.held
	j.mu.Unlock()
	if !held {
		j.flush()
	}
}

// flush lands all that is in line.
func (j *heldLog) flush() {
	j.order.Lock()
	defer j.order.Unlock()
	for {
		j.mu.Lock()
		if len(j.line) == 0 {
			j.mu.Unlock()
			return
		}
		land, fail := j.line[0], j.fail
		j.line = j.line[1:]
		j.mu.Unlock()
		land(fail)
	}
}

func (j *heldLog) hold(held bool) {
	j.mu.Lock()
	j.held = held
	j.mu.Unlock()
	if !held {
		j.flush()
	}
}

func (j *heldLog) breaks(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fail = err
}

func (j *heldLog) Submit(p commitlog.Proposal, done func([]int64, error)) {
	j.push(func(fail error) {
		if fail == nil {
			j.land(p.Commands, p.End)
		}
		done(nil, fail)
	})
}

func (j *heldLog) land(commands []commitlog.Command, end *commitlog.TransactionEnd) {
	j.mu.Lock()
	j.slots = append(j.slots, commands)
	if end != nil {
		j.end(end)
	}
	j.mu.Unlock()
	for _, c := range commands {
		apply := j.c.Apply
		if !slices.Contains(j.c.Kinds(), c.Kind) {
			apply = j.groups.Apply
		}
		if err := apply(c.Kind, c.Body); err != nil {
			j.t.Errorf("apply entry of kind %d: %v", c.Kind, err)
		}
	}
	j.check()
}

func (j *heldLog) end(e *commitlog.TransactionEnd) {
	for _, p := range e.Partitions {
		if epoch, ok := j.open[p][e.Producer]; ok && epoch > e.Epoch {
			j.t.Errorf("marker of epoch %d behind data of epoch %d", e.Epoch, epoch)
		}
		delete(j.open[p], e.Producer)
		j.markers = append(j.markers, marker{p, Producer{e.Producer, e.Epoch}, e.Commit})
	}
	j.fences[e.Producer] = max(j.fences[e.Producer], e.Epoch)
}

// check proves that whatever is open in a partition, its transaction knows.
func (j *heldLog) check() {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	known := make(map[int64]*transaction)
	for _, t := range j.c.ids {
		known[t.producer.ID] = t
	}
	for place, producers := range j.open {
		for id, epoch := range producers {
			t := known[id]
			if t == nil || t.state != Ongoing || !t.has(place) || t.producer.Epoch != epoch {
				j.t.Errorf("producer %d has open data of epoch %d in %v, and no transaction that knows", id, epoch, place)
			}
		}
	}
}

func (j *heldLog) ProposeAll(ctx context.Context, commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	answer := make(chan error, 1)
	j.Submit(commitlog.Proposal{Commands: commands, End: end}, func(_ []int64, err error) { answer <- err })
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *heldLog) Append(a commitlog.Append, done func(int64, error)) {
	j.push(func(fail error) {
		if fail != nil {
			done(-1, fail)
			return
		}
		place := state.Place{Topic: a.Topic, Partition: a.Partition}
		id, epoch := a.Batch.ProducerID(), a.Batch.ProducerEpoch()
		j.mu.Lock()
		if epoch < j.fences[id] {
			j.t.Errorf("data of producer %d with epoch %d lands behind a marker of epoch %d", id, epoch, j.fences[id])
		}
		if j.open[place] == nil {
			j.open[place] = make(map[int64]int16)
		}
		j.open[place][id] = epoch
		j.data++
		base := int64(j.data)
		j.mu.Unlock()
		j.check()
		done(base, nil)
	})
}

func (j *heldLog) NewProducerID(context.Context) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.ids++
	return j.ids, j.fail
}

func (j *heldLog) TopicByID(id weir.TopicID) (state.Topic, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return state.Topic{ID: id}, j.topics[id]
}

// Propose is what the groups use.
func (j *heldLog) Propose(ctx context.Context, kind uint16, body []byte) error {
	return j.ProposeAll(ctx, []commitlog.Command{{Kind: kind, Body: body}}, nil)
}

// taken returns the markers since the last call.
func (j *heldLog) taken() []marker {
	j.mu.Lock()
	defer j.mu.Unlock()
	m := j.markers
	j.markers = nil
	return m
}

// batchOf is a header that says who wrote it; the log looks at no more.
func batchOf(p Producer) record.Batch {
	b := record.NewBuilder(record.None)
	b.SetProducer(p.ID, p.Epoch, 0)
	if err := b.Append(&record.Record{Value: []byte("x")}); err != nil {
		panic(err)
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	return batch
}
