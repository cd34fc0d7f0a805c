//go:build weirtest

package commitlog

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// A model of a topic that is deleted and created again under its name, while nodes know
// older catalogues and shards change their owners. It visits every state of small worlds.
// The states of shards, the mirrors, and what may be opened are the real code.

// catalogueRules are broken, each by itself, to show that the model notices.
type catalogueRules struct {
	oneStep   bool // a topic is deleted in the catalogue at once; shards drop it when their owners hear of it
	unreached bool // a node serves a shard whatever it and the shard's log know of the catalogue
	late      bool // a topic is opened also if its owner has forgotten dropped topics since it read the catalogue
	state     state.Mutations
}

// catalogueWorld is a state of the world.
type catalogueWorld struct {
	rules   catalogueRules
	bounds  catalogueBounds
	slots   []CatalogueSlot // of the log of shard 0
	root    *state.State    // what they make
	known   [2]int          // how many of the slots each node has heard of
	views   [2]*Mirror      // what they make; nil: it is not made yet
	shards  []modelShard
	flying  []modelBatch
	acked   []modelBatch // that must not be lost
	current weir.TopicID // the topic of the name, zero: there is none
	created byte
	sent    int
	wrong   string // a rule that was broken
}

type catalogueBounds struct{ shards, topics, sent, moves int }

// modelShard is a data shard.
type modelShard struct {
	owner   int
	state   *state.State
	slot    uint64
	moves   int
	dropped weir.TopicID // that it was asked to drop last

	forgotten journal.Position // as in speculation
}

// modelBatch is a batch that a client has sent to the topic of the name, of which it was
// told the id by a node.
type modelBatch struct {
	shard  int
	topic  weir.TopicID
	want   weir.TopicID     // the topic of the name when it was sent; zero: it was being deleted since
	read   journal.Position // of the catalogue in which the owner has found its topic, which it opens next; zero: of none
	offset int64
}

func newCatalogueWorld(b catalogueBounds, rules catalogueRules) *catalogueWorld {
	w := &catalogueWorld{rules: rules, bounds: b, root: state.Empty()}
	for range b.shards {
		w.shards = append(w.shards, modelShard{state: w.emptyShard()})
	}
	return w
}

func (w *catalogueWorld) emptyShard() *state.State {
	s := state.Empty()
	s.Mutations = w.rules.state
	return s
}

// clone returns a copy. States are shared: log and put replace the ones that they change.
func (w *catalogueWorld) clone() *catalogueWorld {
	c := *w
	c.slots, c.flying, c.acked, c.shards = slices.Clone(w.slots), slices.Clone(w.flying), slices.Clone(w.acked), slices.Clone(w.shards)
	return &c
}

// cloneState returns a copy, by way of a checkpoint.
func cloneState(s *state.State) *state.State {
	c, _, err := state.DecodeCheckpoint(state.Machines{}.Checkpoint(s.Append))
	must(err)
	c.Mutations = s.Mutations
	return c
}

// key is what distinguishes the world from others.
func (w *catalogueWorld) key() [sha256.Size]byte {
	p := w.root.Append(nil)
	p = fmt.Append(p, w.known, w.current, w.created, w.sent, w.flying, w.acked)
	for _, s := range w.shards {
		p = s.state.Append(fmt.Append(p, s.owner, s.slot, s.moves, s.dropped, s.forgotten))
	}
	return sha256.Sum256(p)
}

// view is the catalogue as a node knows it.
func (w *catalogueWorld) view(node int) *Mirror {
	if m := w.views[node]; m != nil {
		return m
	}
	m, err := NewMirror(CatalogueUpdate{Snapshot: state.Machines{}.Checkpoint(state.Empty().AppendCatalogue)})
	must(err)
	if n := w.known[node]; n > 0 {
		must(m.Apply(CatalogueUpdate{At: w.slots[n-1].At, Slots: w.slots[:n]}))
	}
	w.views[node] = m
	return m
}

// exists reports whether a view has a topic, also one that is being deleted.
func exists(m *Mirror, id weir.TopicID) bool {
	_, is := m.topics[id]
	return is
}

// log adds an entry to the log of shard 0.
func (w *catalogueWorld) log(kind uint16, body []byte) {
	at := journal.Position{Epoch: 1, Slot: uint64(len(w.slots) + 1)}
	e := journal.Entry{Kind: kind, Body: body}
	w.root = cloneState(w.root)
	must(w.root.Apply(at, e))
	w.slots = append(w.slots, CatalogueSlot{at, []journal.Entry{e}})
}

// put adds an entry to the log of a data shard.
func (s *modelShard) put(kind uint16, body []byte) error {
	s.slot++
	s.state = cloneState(s.state)
	return s.state.Apply(journal.Position{Epoch: 1, Slot: s.slot}, journal.Entry{Kind: kind, Body: body})
}

// next returns the worlds that may follow.
func (w *catalogueWorld) next() (all []*catalogueWorld) {
	step := func(do func(*catalogueWorld)) {
		c := w.clone()
		do(c)
		all = append(all, c)
	}
	w.catalogueSteps(step)
	for node := range w.known {
		if w.known[node] < len(w.slots) {
			step(func(c *catalogueWorld) {
				c.known[node]++
				c.views[node] = nil
			})
		}
		if id := w.resolved(node); w.sent < w.bounds.sent && id != (weir.TopicID{}) {
			for shard := range w.shards {
				step(func(c *catalogueWorld) {
					c.sent++
					c.flying = append(c.flying, modelBatch{shard: shard, topic: id, want: c.current})
				})
			}
		}
	}
	for i := range w.flying {
		step(func(c *catalogueWorld) { c.receive(i) })
	}
	for i := range w.shards {
		w.shardSteps(i, step)
	}
	return all
}

// resolved is the id of the name as a node knows it, zero: there is none.
func (w *catalogueWorld) resolved(node int) (id weir.TopicID) {
	for _, t := range w.view(node).Topics() {
		id = t.ID
	}
	return id
}

// catalogueSteps are what the owner of shard 0 may do.
func (w *catalogueWorld) catalogueSteps(step func(func(*catalogueWorld))) {
	deleting := w.root.Deletions()
	switch {
	case len(deleting) > 0:
		id := deleting[0].Topic.ID
		for _, s := range w.shards {
			if s.dropped != id {
				return // it waits
			}
		}
		step(func(c *catalogueWorld) { c.log(state.KindTopicDeleted, state.EncodeTopicDeleted(id)) })
	case w.current == weir.TopicID{} && int(w.created) < w.bounds.topics:
		step(func(c *catalogueWorld) {
			c.created++
			c.current = weir.TopicID{c.created}
			c.log(state.KindTopicCreated, state.EncodeTopicCreated(c.topic(c.current)))
		})
	case w.current != weir.TopicID{}:
		step(func(c *catalogueWorld) {
			id := c.current
			if c.rules.oneStep {
				c.log(state.KindTopicDeleted, state.EncodeTopicDeleted(id))
			} else {
				c.log(state.KindTopicDeleting, state.EncodeTopicDeleting(id))
			}
			c.current = weir.TopicID{}
			for i := range c.flying { // it is up to chance what becomes of it
				c.flying[i].want = weir.TopicID{}
			}
			c.acked = slices.DeleteFunc(c.acked, func(b modelBatch) bool { return b.topic == id })
		})
	}
}

// shardSteps are what the owner of a data shard may do of itself, and a change of owner.
func (w *catalogueWorld) shardSteps(i int, step func(func(*catalogueWorld))) {
	s := &w.shards[i]
	other := w.view(1 - s.owner)
	if s.moves < w.bounds.moves && (w.rules.unreached || !other.Position().Before(s.state.Catalogue)) {
		step(func(c *catalogueWorld) { c.move(i) })
	}
	for _, d := range w.root.Deletions() {
		if s.dropped != d.Topic.ID {
			step(func(c *catalogueWorld) {
				c.shards[i].dropped = d.Topic.ID
				c.drop(i, d.Topic.ID, d.At)
			})
		}
	}
	view := w.view(s.owner)
	for id, t := range s.state.Topics { // it is not there any more, at a position behind that of its opening
		if at := view.Position(); !exists(view, id) && !at.Before(t.Opened) && !at.IsZero() {
			step(func(c *catalogueWorld) { c.drop(i, id, at) })
		}
	}
	var forgotten []weir.TopicID
	for id, was := range s.state.Dropped {
		if was.Before(view.Position()) && !exists(view, id) {
			forgotten = append(forgotten, id)
		}
	}
	if len(forgotten) > 0 {
		step(func(c *catalogueWorld) {
			must(c.shards[i].put(state.KindDroppedForgotten, state.EncodeDroppedForgotten(forgotten, view.Position())))
			c.shards[i].forgotten = view.Position()
		})
	}
}

// move makes the other node the owner of a shard. What the former one was about to do is
// done by nobody.
func (w *catalogueWorld) move(shard int) {
	s := &w.shards[shard]
	s.owner, s.moves, s.forgotten = 1-s.owner, s.moves+1, s.state.Catalogue
	if w.rules.unreached {
		s.forgotten = journal.Position{}
	}
	for i := range w.flying {
		if w.flying[i].shard == shard {
			w.flying[i].read = journal.Position{}
		}
	}
}

func (w *catalogueWorld) drop(shard int, id weir.TopicID, at journal.Position) {
	must(w.shards[shard].put(state.KindTopicDropped, state.EncodeTopicDropped(id, at)))
}

// receive is a batch that comes to the owner of its shard. If that lacks the topic, it
// reads in its catalogue whether there is one. In a later step it opens that and appends the batch.
func (w *catalogueWorld) receive(i int) {
	b := w.flying[i]
	s := &w.shards[b.shard]
	view := w.view(s.owner)
	there := slices.ContainsFunc(view.Topics(), func(t state.Topic) bool { return t.ID == b.topic })
	if s.state.Topics[b.topic] == nil && b.read.IsZero() && there {
		w.flying[i].read = view.Position()
		return
	}
	w.flying = slices.Delete(w.flying, i, i+1)
	switch {
	case !b.read.IsZero():
		if !w.open(b) {
			return
		}
	case s.state.Topics[b.topic] == nil:
		return // the client asks again
	}
	key := state.Place{Topic: b.topic, Partition: int32(b.shard)}
	b.offset = s.state.Partition(key).End
	must(s.put(state.KindRun, modelRun(key, b.offset)))
	if w.current == (weir.TopicID{}) || b.want != w.current {
		return // its topic is being deleted
	}
	if b.topic != b.want {
		w.wrong = fmt.Sprintf("a batch for topic %v was acknowledged in topic %v, which had the name before", b.want, b.topic)
	}
	w.acked = append(w.acked, b)
}

// open opens the topic of a batch as the owner of its shard has read it. It reports
// whether the shard has it then.
func (w *catalogueWorld) open(b modelBatch) bool {
	s := &w.shards[b.shard]
	t := w.topic(b.topic)
	spec := &speculation{durable: s.state, forgotten: s.forgotten}
	if w.rules.late {
		spec.forgotten = journal.Position{}
	}
	changes, err := spec.opens(t, b.read)
	if err != nil || !changes {
		return err == nil
	}
	if err := s.put(state.KindTopicOpened, state.EncodeTopicOpened(t, b.read)); err != nil {
		w.wrong = fmt.Sprintf("the log of shard %d is broken: %v", b.shard, err)
		return false
	}
	return true
}

// topic is what every catalogue says of a topic.
func (w *catalogueWorld) topic(id weir.TopicID) state.Topic {
	return state.Topic{ID: id, Name: "t", Partitions: int32(len(w.shards))}
}

// modelRun is a run of one record.
func modelRun(key state.Place, base int64) []byte {
	r := state.Run{Topic: key.Topic, Partition: key.Partition, Base: base, Epoch: 1, Batches: 1}
	batch := record.Batch(slices.Clone(recordtest.Batch("v")))
	batch.SetBaseOffset(base)
	batch.SetLeaderEpoch(1)
	body := state.AppendRunHead(nil, &r)
	at := len(body)
	body = append(body, batch...)
	must(state.SealRun(body, at))
	return body
}

// broken says which promise is broken, "" if none is.
func (w *catalogueWorld) broken() string {
	if w.wrong != "" {
		return w.wrong
	}
	for _, b := range w.acked {
		p := w.shards[b.shard].state.Partition(state.Place{Topic: b.topic, Partition: int32(b.shard)})
		if p == nil || p.End <= b.offset {
			return fmt.Sprintf("lost: offset %d of topic %v in shard %d", b.offset, b.topic, b.shard)
		}
	}
	if w.rules.oneStep {
		return "" // then it is there for a while
	}
	for i, s := range w.shards {
		for id := range s.state.Topics {
			if w.root.Topics[id] == nil {
				return fmt.Sprintf("shard %d has topic %v, which was deleted", i, id)
			}
		}
	}
	return ""
}

// explore visits all worlds, and returns what is broken in the first one that is.
func explore(b catalogueBounds, rules catalogueRules) (visited int, broken string) {
	first := newCatalogueWorld(b, rules)
	seen := map[[sha256.Size]byte]bool{first.key(): true}
	for queue := []*catalogueWorld{first}; len(queue) > 0; queue = queue[1:] {
		visited++
		for _, w := range queue[0].next() {
			if broken := w.broken(); broken != "" {
				return visited, broken
			}
			if key := w.key(); !seen[key] {
				seen[key] = true
				queue = append(queue, w)
			}
		}
		queue[0] = nil
	}
	return visited, ""
}

// Nothing that was acknowledged is lost with a topic that had its name before, and no
// deleted topic comes back.
func TestCatalogueModel(t *testing.T) {
	for _, b := range []catalogueBounds{{1, 2, 2, 2}, {2, 2, 1, 1}}[:storagetest.Rounds(2)] {
		visited, broken := explore(b, catalogueRules{})
		if broken != "" {
			t.Errorf("%+v: %s", b, broken)
		}
		t.Logf("%+v: %d states", b, visited)
	}
}

// Without any of the rules something is lost, or comes back.
func TestCatalogueModelNotices(t *testing.T) {
	for name, rules := range map[string]catalogueRules{
		"deleted in one step":                  {oneStep: true},
		"served before the catalogue is read":  {unreached: true},
		"opened from before what is forgotten": {late: true},
		"dropped is not kept":                  {state: state.Mutations{KeepNoDropped: true}},
		"opened without a position":            {state: state.Mutations{OpenedNowhere: true}},
	} {
		visited, broken := explore(catalogueBounds{1, 2, 2, 2}, rules)
		if broken == "" {
			t.Errorf("%s: nothing is broken in %d states", name, visited)
		}
		t.Logf("%s: after %d states: %s", name, visited, broken)
	}
}
