package sender

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// lane drains one lane of the buffers, one buffer after the other, over one session.
// Its fields belong to run, except those under mu.
type lane struct {
	n      *session
	id     weir.Lane
	stream wire.Channel
	pack   *packer
	wake   chan struct{} // capacity 1

	buffer  weir.Buffer // the one that is being drained, as last listed
	seen    uint64      // session.stored at that time
	table   *table
	news    int    // session.answers when the table was last compared with them, -1: never
	ahead   []Item // read, and behind a barrier
	next    uint64 // the sequence to read next
	end     bool   // nothing was found at next
	trimmed uint64
	settled map[weir.BufferID]bool
	scratch []record.Record

	mu       sync.Mutex
	delivery *delivery  // of buffer; nil: none is being drained
	refused  [][]*entry // refused for good, found by listen; run puts them into the dead letters
	causes   []string   // of refused, one per group
}

func newLane(n *session, id weir.Lane) *lane {
	return &lane{
		n: n, id: id, pack: newPacker(n.maxBatch, n.s.o.Plain),
		wake: make(chan struct{}, 1), settled: map[weir.BufferID]bool{},
	}
}

// wakeUp makes run look again.
func (l *lane) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run opens the lane's stream and drains buffers until the session ends.
func (l *lane) run() {
	st, err := l.n.conn.OpenStream(l.n.ctx, urgencyLane+2*int8(l.id))
	if err == nil {
		l.stream = st
		err = wire.WritePreface(st, wire.Preface{Kind: wire.StreamLane, Lane: l.id})
	}
	if err != nil {
		l.n.end(fmt.Errorf("open lane %s: %w", l.id, err))
		return
	}
	l.n.wg.Go(l.listen)
	for {
		again, err := l.step()
		if err != nil {
			l.n.end(fmt.Errorf("drain lane %s: %w", l.id, err))
			return
		}
		if !again && !l.wait() {
			return
		}
		if l.n.ctx.Err() != nil {
			return
		}
	}
}

// wait blocks until something has happened or a pause is over. It returns false if the
// session has ended.
func (l *lane) wait() bool {
	var timer <-chan time.Time
	l.mu.Lock()
	if l.delivery != nil {
		if at := l.delivery.resume(time.Now()); !at.IsZero() {
			timer = time.After(time.Until(at))
		}
	}
	l.mu.Unlock()
	select {
	case <-l.wake:
	case <-timer:
	case <-l.n.ctx.Done():
		return false
	}
	return true
}

// step does everything that can be done now. It reports whether to go on at once.
func (l *lane) step() (again bool, err error) {
	if l.delivery == nil {
		found, err := l.open()
		if err != nil || !found {
			return false, err
		}
	}
	if err := l.fill(); err != nil {
		return false, err
	}
	if err := l.learn(); err != nil {
		return false, err
	}
	sent, err := l.flush()
	if err != nil {
		return false, err
	}
	if err := l.storeRefused(); err != nil {
		return false, err
	}
	done, err := l.trim()
	return sent || done, err
}

// open begins the oldest buffer that this lane has not settled.
func (l *lane) open() (found bool, err error) {
	seen := l.n.stored.Load()
	all, err := l.n.s.o.Buffers.List()
	if err != nil {
		return false, fmt.Errorf("list buffers: %w", err)
	}
	for _, b := range all {
		if l.settled[b.ID] {
			continue
		}
		st, known, err := l.n.state(b.ID)
		if err != nil {
			return false, err
		}
		if !known {
			return false, nil // the answer wakes us
		}
		if st == weir.BufferRetired || st == weir.BufferAside {
			l.settled[b.ID] = true
			continue
		}
		rows, err := l.n.s.o.Buffers.Rows(b.ID)
		if err != nil {
			return false, fmt.Errorf("read map table of buffer %s: %w", b.ID, err)
		}
		t := newTable(rows, l.id)
		if err := l.recall(b.ID, t); err != nil {
			return false, err
		}
		l.begin(b, seen, t)
		return true, nil
	}
	return false, nil
}

// recall adds rows to a map table that only the cloud still has: the card was replaced
// by an old image, or the table was damaged. Each row is durable here before it is
// used, like any other.
func (l *lane) recall(id weir.BufferID, t *table) error {
	l.n.mu.Lock()
	rows := slices.Clone(l.n.rows[id])
	l.n.mu.Unlock()
	for _, row := range rows {
		if row.Lane != l.id || forgetRows(l.n.s.o.Mutations) {
			continue
		}
		t.used[row.Name] = max(t.used[row.Name], row.From)
		if slices.Contains(t.rows, row) {
			continue
		}
		if err := l.n.s.o.Buffers.AddRow(row); err != nil {
			return fmt.Errorf("add row to map table: %w", err)
		}
		l.n.s.log.Warn("partition map restored from the cloud: the local copy was older than what had been sent",
			"buffer", id, "lane", l.id, "topic", row.Name, "partitions", row.Partitions, "from", row.From)
		t.add(row)
	}
	return nil
}

// begin sets up the delivery of a buffer from the cloud's marks.
func (l *lane) begin(b weir.Buffer, seen uint64, t *table) {
	l.buffer, l.seen, l.table, l.news = b, seen, t, -1
	from := max(b.Lanes[l.id].First, 1)
	l.ahead, l.next, l.end, l.trimmed = nil, from, false, from-1
	d := newDelivery(b.ID, l.id, from, l.marks(b.ID), t.ids(weir.GapTopic), limits{
		window: l.n.window, readAhead: l.n.s.o.ReadAhead, batch: min(l.n.s.o.Batch, l.n.maxBatch),
	})
	d.mutations = l.n.s.o.Mutations
	d.gapKey = func(seq uint64) (partKey, bool) {
		row, ok := l.table.find(weir.GapTopic, seq)
		if !ok {
			return partKey{}, false
		}
		return partKey{row.Topic, record.Partition([]byte(l.n.s.o.Gateway), row.Partitions)}, true
	}
	l.n.mu.Lock()
	reached := l.n.high[b.ID][l.id]
	l.n.mu.Unlock()
	if first, gone := d.forgotten(reached); gone {
		l.n.s.log.Error("the cloud has lost records that it had acknowledged, and this gateway has freed them: a gap is reported",
			"buffer", b.ID, "lane", l.id, "first", first, "last", from-1)
		d.pushGap(Item{Seq: from - 1, Gap: &weir.Gap{First: first, Last: from - 1, Reason: "the cloud has gone back: its bucket was restored"}})
	}
	l.mu.Lock()
	l.delivery = d
	l.mu.Unlock()
}

func (l *lane) marks(id weir.BufferID) []weir.Mark {
	if b, ok := l.n.s.beliefs.of(id); ok {
		return b
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return slices.Clone(l.n.marks[id])
}

// fill reads what is durable in the buffer, as far as there is room.
func (l *lane) fill() error {
	for {
		for len(l.ahead) > 0 {
			if !l.hasRoom() {
				return nil
			}
			ok, err := l.push(l.ahead[0])
			if err != nil || !ok {
				return err
			}
			l.ahead = l.ahead[1:]
		}
		if l.end && !l.refresh() || !l.hasRoom() {
			return nil
		}
		if err := l.read(); err != nil || l.end {
			return err
		}
	}
}

func (l *lane) hasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.delivery.wantsMore()
}

// refresh checks whether there may be something new at the end of the buffer.
func (l *lane) refresh() bool {
	now := l.n.stored.Load()
	if now == l.seen || !l.buffer.Current {
		return false
	}
	l.seen = now
	return true
}

// read continues at next. A buffer that was current is listed again before it is read:
// if it is no longer current, what Read does not find will never come.
func (l *lane) read() error {
	if l.buffer.Current {
		all, err := l.n.s.o.Buffers.List()
		if err != nil {
			return fmt.Errorf("list buffers: %w", err)
		}
		i := slices.IndexFunc(all, func(b weir.Buffer) bool { return b.ID == l.buffer.ID })
		if i < 0 {
			return fmt.Errorf("buffer %s disappeared while it was drained", l.buffer.ID)
		}
		l.buffer = all[i]
	}
	items, err := l.n.s.o.Buffers.Read(l.buffer.ID, l.id, l.next)
	l.end = errors.Is(err, io.EOF)
	if l.end {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read buffer %s from %d: %w", l.buffer.ID, l.next, err)
	}
	if len(items) == 0 {
		return fmt.Errorf("read buffer %s from %d: no records, although more must follow", l.buffer.ID, l.next)
	}
	l.ahead, l.next = items, items[len(items)-1].Seq+1
	return nil
}

// push gives an item to the delivery. It returns false if the item must wait behind a
// barrier.
func (l *lane) push(it Item) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if it.Gap != nil {
		l.delivery.pushGap(it)
		return true, nil
	}
	if reserved(it.Topic) {
		if e := l.delivery.pushRefused(it); e != nil {
			l.addRefused([]*entry{e}, "not-allowed: topic belongs to the cloud")
		}
		return true, nil
	}
	if it.Seq < l.table.used[it.Topic] {
		l.delivery.pushSettled(it)
		return true, nil
	}
	row, ok := l.table.find(it.Topic, it.Seq)
	if !ok {
		l.delivery.park(it)
		return true, nil
	}
	// A row's barrier: everything before the row must be settled first. A topic's first
	// row needs no barrier, unless damage took the rows before it.
	if row.From > 1 && l.delivery.floor() < row.From-1 && !noBarrier(l.n.s.o.Mutations) {
		return false, nil
	}
	k, err := l.keyOf(it, row)
	if err == nil {
		l.delivery.push(it, k)
	}
	return true, err
}

func (l *lane) keyOf(it Item, row weir.MapRow) (partKey, error) {
	count := row.Partitions
	if todaysCount(l.n.s.o.Mutations) {
		q, err := l.n.resolve(it.Topic)
		if err != nil {
			return partKey{}, err
		}
		if q.answer != nil {
			count = q.answer.Partitions
		}
	}
	return partKey{row.Topic, record.Partition(it.Record.Key, count)}, nil
}

// flush sends every frame that may be sent.
func (l *lane) flush() (sent bool, err error) {
	for {
		l.mu.Lock()
		c, ok := l.delivery.next(time.Now(), l.scratch)
		l.mu.Unlock()
		if !ok {
			return sent, nil
		}
		sent = true
		f, err := l.pack.frame(l.buffer.ID, l.id, l.rowOf(&c), &c)
		if c.records != nil {
			clear(c.records)
			l.scratch = c.records[:0]
		}
		if err != nil {
			l.mu.Lock()
			l.addRefused(l.delivery.reject(c), err.Error())
			l.mu.Unlock()
			continue
		}
		if err := wire.Write(l.stream, f); err != nil {
			return sent, fmt.Errorf("write: %w", err)
		}
		l.sent(&c, f)
	}
}

// rowOf returns the row that gave a parcel's records their partition. Because of the
// barrier it is the same for all of them.
func (l *lane) rowOf(c *parcel) weir.Row {
	row, _ := l.table.find(c.topic, c.last)
	if todaysCount(l.n.s.o.Mutations) {
		row.Partitions = max(row.Partitions, c.key.partition+1)
	}
	return row.Row
}

func (l *lane) sent(c *parcel, f wire.Frame) {
	if a, ok := f.(*wire.Append); ok {
		l.n.s.count.records.Add(c.n)
		l.n.s.count.bytes.Add(len(a.Batch) + wire.AppendOverhead)
	} else {
		l.n.s.count.gaps.Inc()
	}
	if ownBelief(l.n.s.o.Mutations) {
		l.n.s.beliefs.add(weir.Mark{
			Buffer: l.buffer.ID, Lane: l.id, Topic: c.key.topic, Partition: c.key.partition, Last: c.last})
	}
}

// trim frees what is settled, and ends a buffer that is settled to its end. It reports
// whether there may be more to do: fill may have found no room for what is there now.
func (l *lane) trim() (more bool, err error) {
	l.mu.Lock()
	floor := l.delivery.floor()
	empty := len(l.delivery.order) == 0
	state := LaneState{Buffer: l.buffer.ID, Records: len(l.delivery.order), Bytes: l.delivery.inFlight + l.delivery.waiting}
	if !empty {
		if ts := l.delivery.order[0].item.Record.Timestamp; ts > 0 {
			state.Oldest = time.UnixMilli(ts)
		}
	}
	l.mu.Unlock()
	l.n.s.set(func(st *State) { st.Lanes[l.id] = state })
	freed := floor > l.trimmed
	if freed {
		if err := l.n.s.o.Buffers.Trim(l.buffer.ID, l.id, floor); err != nil {
			return false, fmt.Errorf("trim buffer %s to %d: %w", l.buffer.ID, floor, err)
		}
		l.trimmed = floor
	}
	if !l.end || len(l.ahead) > 0 {
		return freed, nil
	}
	if l.buffer.Current {
		return false, nil
	}
	if !empty {
		if nextBuffer(l.n.s.o.Mutations) {
			l.leave()
			return true, nil
		}
		return false, nil
	}
	id := l.buffer.ID
	l.leave()
	return true, l.n.laneDone(id, l.id)
}

// leave drops the delivery of a buffer.
func (l *lane) leave() {
	l.settled[l.buffer.ID] = true
	l.mu.Lock()
	l.delivery = nil
	l.mu.Unlock()
}
