package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// place is where a reading lies on a gateway.
type place struct {
	buffer weir.BufferID
	lane   weir.Lane
	seq    uint64
}

func (p place) String() string {
	return fmt.Sprintf("%d.%x/%v/%d", p.buffer.Counter(), p.buffer[10:], p.lane, p.seq)
}

// disk is a gateway's storage: what is left when the gateway dies.
type disk interface {
	// boot starts a process: what it gets is dead after the next kill.
	boot() (sender.Buffers, error)
	// put accepts records; synced says which of the two durabilities they have:
	// on the disk, or lost or kept by the next kill.
	put(lane weir.Lane, topic string, recs []record.Record, synced bool) ([]place, error)
	// sync makes durable what was put, and says where that lies.
	sync() ([]place, error)
	// kill ends the process. a decides what becomes of what was not synced.
	kill(a uint32) error
	// image keeps the disk as it is; restore makes it that again, while no
	// process runs, and says whether there was one.
	image() error
	restore() (bool, error)
	// damage spoils something while no process runs, and says which records
	// may be gone.
	damage(a, b uint32) (gone func(place) bool, err error)
	// reports says whether a record that is damaged is always a gap. It is not if
	// damage may be a card that lied about a sync.
	reports() bool
	// age draws an id as if a process had come and gone; false: it cannot.
	age() (weir.BufferID, bool)
	// left counts items that are not trimmed, and buffers, without those in skip.
	left(skip map[weir.BufferID]bool) (items, buffers int)
	// dead says whether a record is in the dead letters.
	dead(p place) bool
	close() error
}

// cardMutations are rules of a local buffer that a test breaks.
type cardMutations struct {
	ReuseBuffer bool // go on in the newest buffer at a boot, instead of drawing an id
	ReadAhead   bool // hand out what is not synced
	LooseRows   bool // rows of the map table do not survive a kill
	LooseGraves bool // dead letters do not survive a kill
}

// card is a simulated disk with the promises of edge/wal.
type card struct {
	mu        sync.Mutex
	mutations cardMutations
	rng       *rand.Rand
	frame     int // items per Read
	state     cardState
	saved     *cardState
	proc      *process // nil: none runs
}

// cardState is what an image of a card holds.
type cardState struct {
	buffers []*buffer // oldest first
	opened  uint32
	buried  map[place]bool
	loose   map[place]bool // buried, of LooseGraves
}

type buffer struct {
	id    weir.BufferID
	lanes [weir.Lanes]cardLane
	rows  []weir.MapRow
}

// cardLane is a lane of a buffer. items holds what is not durably trimmed.
type cardLane struct {
	items   []sender.Item
	synced  int    // of items
	last    uint64 // given out
	trimmed uint64 // as the process knows
	freed   uint64 // as the disk knows
}

var errDead = errors.New("process is dead")

func newCard(seed uint64, frame int, mutations cardMutations) *card {
	return &card{mutations: mutations, rng: rand.New(rand.NewPCG(seed, 2)), frame: frame,
		state: cardState{buried: map[place]bool{}, loose: map[place]bool{}}}
}

func (s *cardState) clone() cardState {
	c := cardState{opened: s.opened, buried: maps.Clone(s.buried), loose: maps.Clone(s.loose)}
	for _, b := range s.buffers {
		d := *b
		d.rows = slices.Clone(b.rows)
		for i := range d.lanes {
			d.lanes[i].items = slices.Clone(d.lanes[i].items)
		}
		c.buffers = append(c.buffers, &d)
	}
	return c
}

func (s *cardState) current() *buffer { return s.buffers[len(s.buffers)-1] }

func (s *cardState) find(id weir.BufferID) *buffer {
	for _, b := range s.buffers {
		if b.id == id {
			return b
		}
	}
	return nil
}

func (c *card) newID() (id weir.BufferID) {
	c.state.opened++
	binary.BigEndian.PutUint32(id[:], c.state.opened)
	binary.BigEndian.PutUint64(id[4:], c.rng.Uint64())
	return id
}

func (c *card) boot() (sender.Buffers, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mutations.ReuseBuffer || len(c.state.buffers) == 0 {
		c.state.buffers = append(c.state.buffers, &buffer{id: c.newID()})
	}
	c.proc = &process{card: c, notify: make(chan struct{}, 1)}
	c.proc.poke()
	return c.proc, nil
}

func (c *card) put(lane weir.Lane, topic string, recs []record.Record, synced bool) ([]place, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.state.current()
	l := &b.lanes[lane]
	if synced {
		l.synced = len(l.items) // a sync takes what lies before it along
	}
	var out []place
	for _, r := range recs {
		l.last++
		l.items = append(l.items, sender.Item{Seq: l.last, Topic: topic, Record: r})
		out = append(out, place{b.id, lane, l.last})
	}
	if synced {
		l.synced = len(l.items)
	}
	c.proc.poke()
	return out, nil
}

func (c *card) sync() ([]place, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.state.current()
	var out []place
	for i := range b.lanes {
		l := &b.lanes[i]
		for _, it := range l.items[l.synced:] {
			out = append(out, place{b.id, weir.Lane(i), it.Seq})
		}
		l.synced = len(l.items)
	}
	c.proc.poke()
	return out, nil
}

func (c *card) kill(a uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.proc = nil
	for _, b := range c.state.buffers {
		if c.mutations.LooseRows {
			b.rows = b.rows[:0]
		}
		for i := range b.lanes {
			l := &b.lanes[i]
			l.trimmed = l.freed
			keep := min(len(l.items), l.synced+int(a%3))
			l.items, l.synced = l.items[:keep:keep], keep
			l.last = l.freed
			if keep > 0 {
				l.last = l.items[keep-1].Seq
			}
		}
	}
	if c.mutations.LooseGraves {
		c.state.buried = map[place]bool{}
	}
	return nil
}

func (c *card) image() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state.clone()
	for _, b := range s.buffers {
		for i := range b.lanes {
			l := &b.lanes[i]
			l.items, l.trimmed = l.items[:l.synced], l.freed
			if l.last = l.freed; l.synced > 0 {
				l.last = l.items[l.synced-1].Seq
			}
		}
	}
	c.saved = &s
	return nil
}

func (c *card) restore() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved == nil {
		return false, nil
	}
	c.state = c.saved.clone()
	return true, nil
}

// damage makes a gap of some records, or takes the end of a lane away as if the
// card had lied about a sync, or takes a row of the map table away, or all rows
// from it on.
func (c *card) damage(a, b uint32) (gone func(place) bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	none := func(place) bool { return false }
	if len(c.state.buffers) == 0 {
		return none, nil
	}
	x := c.state.buffers[int(a)%len(c.state.buffers)]
	if n := len(x.rows); n > 0 && a/1024%3 == 0 {
		from := int(b) % n
		to := from + 1
		if a/4096%2 == 0 {
			to = n
		}
		x.rows = slices.Delete(x.rows, from, to)
		return none, nil
	}
	ln := weir.Lane(a / 64 % weir.Lanes)
	l := &x.lanes[ln]
	if len(l.items) == 0 {
		return none, nil
	}
	from := int(b) % len(l.items)
	to := min(len(l.items), from+1+int(b/256%4))
	first, last := firstOf(l.items[from]), l.items[to-1].Seq
	gone = func(p place) bool { return p.buffer == x.id && p.lane == ln && first <= p.seq && p.seq <= last }
	if to == len(l.items) && a/512%2 == 0 && l.items[from].Gap == nil {
		l.items = l.items[:from:from]
		l.synced, l.last = from, first-1
		return gone, nil
	}
	hole := sender.Item{Seq: last, Gap: &weir.Gap{First: first, Last: last, Reason: "damaged", Exact: true}}
	l.items = slices.Concat(l.items[:from], []sender.Item{hole}, l.items[to:])
	l.synced = len(l.items)
	return gone, nil
}

func firstOf(it sender.Item) uint64 {
	if it.Gap != nil {
		return it.Gap.First
	}
	return it.Seq
}

func (c *card) reports() bool { return false }

func (c *card) age() (weir.BufferID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newID(), true
}

func (c *card) left(skip map[weir.BufferID]bool) (items, buffers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range c.state.buffers {
		if skip[b.id] {
			continue
		}
		buffers++
		for _, l := range b.lanes {
			for _, it := range l.items {
				if it.Seq > l.trimmed {
					items++
				}
			}
		}
	}
	return items, buffers
}

func (c *card) dead(p place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.buried[p]
}

func (c *card) close() error { return nil }

// process is the card as one process of the gateway sees it. After its death
// nothing that it does reaches the card.
type process struct {
	card   *card
	notify chan struct{}
}

var _ sender.Buffers = (*process)(nil)

func (p *process) poke() {
	if p != nil {
		select {
		case p.notify <- struct{}{}:
		default:
		}
	}
}

// enter locks the card and finds a buffer.
func (p *process) enter(id weir.BufferID) (*buffer, error) {
	p.card.mu.Lock()
	if p.card.proc != p {
		p.card.mu.Unlock()
		return nil, errDead
	}
	b := p.card.state.find(id)
	if b == nil {
		p.card.mu.Unlock()
		return nil, fmt.Errorf("no buffer %s", id)
	}
	return b, nil
}

func (p *process) List() ([]weir.Buffer, error) {
	c := p.card
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != p {
		return nil, errDead
	}
	var out []weir.Buffer
	for i, b := range c.state.buffers {
		v := weir.Buffer{ID: b.id, Current: i == len(c.state.buffers)-1}
		for j := range b.lanes {
			l := &b.lanes[j]
			last := max(l.freed, l.trimmed)
			if n := l.visible(c.mutations.ReadAhead); n > 0 {
				last = max(last, l.items[n-1].Seq)
			}
			v.Lanes[j] = weir.Bounds{First: l.trimmed + 1, Last: last}
		}
		out = append(out, v)
	}
	return out, nil
}

// visible is how many items a reader may see.
func (l *cardLane) visible(ahead bool) int {
	if ahead {
		return len(l.items)
	}
	return l.synced
}

func (p *process) Read(id weir.BufferID, lane weir.Lane, from uint64) ([]sender.Item, error) {
	b, err := p.enter(id)
	if err != nil {
		return nil, err
	}
	defer p.card.mu.Unlock()
	l := &b.lanes[lane]
	from = max(from, l.trimmed+1)
	items := l.items[:l.visible(p.card.mutations.ReadAhead)]
	i, _ := slices.BinarySearchFunc(items, from, func(it sender.Item, seq uint64) int { return int(it.Seq) - int(seq) })
	if i == len(items) {
		return nil, io.EOF
	}
	return slices.Clone(items[i:min(i+p.card.frame, len(items))]), nil
}

// Trim is lazy, as a card that is written seldom is: now and then the disk
// learns of it too.
func (p *process) Trim(id weir.BufferID, lane weir.Lane, through uint64) error {
	b, err := p.enter(id)
	if err != nil {
		return err
	}
	defer p.card.mu.Unlock()
	l := &b.lanes[lane]
	l.trimmed = max(l.trimmed, through)
	if p.card.rng.IntN(3) > 0 {
		l.free()
	}
	return nil
}

func (l *cardLane) free() {
	for len(l.items) > 0 && l.items[0].Seq <= l.trimmed && l.synced > 0 {
		l.items = l.items[1:]
		l.synced--
	}
	l.freed = l.trimmed
}

func (p *process) Retire(id weir.BufferID) error {
	b, err := p.enter(id)
	if errors.Is(err, errDead) {
		return err
	} else if err != nil {
		return nil // gone already
	}
	defer p.card.mu.Unlock()
	s := &p.card.state
	if b == s.current() {
		return errors.New("retire of the current buffer")
	}
	s.buffers = slices.DeleteFunc(s.buffers, func(x *buffer) bool { return x == b })
	return nil
}

func (p *process) Notify() <-chan struct{} { return p.notify }

func (p *process) Rows(id weir.BufferID) ([]weir.MapRow, error) {
	b, err := p.enter(id)
	if err != nil {
		return nil, err
	}
	defer p.card.mu.Unlock()
	return slices.Clone(b.rows), nil
}

func (p *process) AddRow(row weir.MapRow) error {
	b, err := p.enter(row.Buffer)
	if err != nil {
		return err
	}
	defer p.card.mu.Unlock()
	b.rows = append(b.rows, row)
	return nil
}

func (p *process) AddDead(id weir.BufferID, lane weir.Lane, items []sender.Item, _ string) error {
	_, err := p.enter(id)
	if err != nil {
		return err
	}
	defer p.card.mu.Unlock()
	for _, it := range items {
		if it.Record.Value == nil {
			return fmt.Errorf("bury an empty record at %d", it.Seq)
		}
		p.card.state.buried[place{id, lane, it.Seq}] = true
	}
	return nil
}
