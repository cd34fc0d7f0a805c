package sender

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

const (
	dialTimeout    = 10 * time.Second // including name resolution and handshake
	welcomeTimeout = 10 * time.Second // from Hello to the last mark
	pingInterval   = 5 * time.Second
	silence        = 3 * pingInterval // without any frame: the link is dead
)

// Urgencies of streams, lower first.
const (
	urgencyControl = 0
	urgencyLane    = 1 // plus twice the lane
)

// session is one connection to a node, from Hello to its end.
type session struct {
	s        *Sender
	conn     Session
	addr     string
	control  wire.Channel  // written with writing held, read by begin and then readControl
	writing  chan struct{} // capacity 1: a lock that may be held as long as a write takes
	welcomed bool          // set by begin
	features uint64        // that both ends have, set by begin
	told     []wire.Figure // this and the next belong to keepAlive: the last Status, and when it was sent
	toldAt   time.Time

	maxBatch int // both from Welcome
	window   int

	ctx    context.Context // its cause is why the session ends
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	lanes  [weir.Lanes]*lane
	asking chan struct{} // capacity 1: the time of a question has changed
	heard  atomic.Int64  // when the last frame came, Unix nanoseconds
	stored atomic.Uint64 // counts Notify

	mu     sync.Mutex // guards what follows
	states map[weir.BufferID]weir.BufferState
	marks  map[weir.BufferID][]weir.Mark
	rows   map[weir.BufferID][]weir.MapRow
	high   map[weir.BufferID][weir.Lanes]uint64 // reached, as the cloud says
	asked  map[weir.BufferID]bool               // offered, not answered
	done   map[weir.BufferID]int                // lanes that are settled, as bits
	topics map[string]*topicQuestion            // all that lanes asked for
	news   int                                  // counts answers
}

// topicQuestion is a Resolve and what came of it.
type topicQuestion struct {
	answer *wire.Topic // nil: not answered yet; the last valid one
	refuse *wire.Topic // refused for good, until a lane has acted on it
	again  time.Time   // when to ask again; zero: the answer is awaited
	pause  time.Duration
}

func newSession(s *Sender, conn Session, addr string) *session {
	return &session{
		s: s, conn: conn, addr: addr, writing: make(chan struct{}, 1), asking: make(chan struct{}, 1),
		states: map[weir.BufferID]weir.BufferState{},
		marks:  map[weir.BufferID][]weir.Mark{},
		rows:   map[weir.BufferID][]weir.MapRow{},
		high:   map[weir.BufferID][weir.Lanes]uint64{},
		asked:  map[weir.BufferID]bool{},
		done:   map[weir.BufferID]int{},
		topics: map[string]*topicQuestion{},
	}
}

// run is the whole life of a session. It returns why the session ended.
func (n *session) run(ctx context.Context) error {
	n.ctx, n.cancel = context.WithCancelCause(ctx)
	// Whatever ends the session closes the connection, which unblocks every
	// read and write of it.
	stop := context.AfterFunc(n.ctx, func() { n.conn.Close(wire.CodeNone, "") })
	err := n.begin()
	if err == nil {
		err = n.retireKnown()
	}
	if err == nil {
		n.start()
	} else {
		n.cancel(err)
	}
	<-n.ctx.Done()
	if stop() {
		n.conn.Close(wire.CodeNone, "")
	}
	n.wg.Wait()
	n.s.set(func(st *State) { st.Lanes = [weir.Lanes]LaneState{} })
	return context.Cause(n.ctx)
}

// end makes the session end; the first cause counts.
func (n *session) end(err error) { n.cancel(err) }

// begin says Hello and reads the marks.
func (n *session) begin() error {
	late := time.AfterFunc(welcomeTimeout, func() { n.end(errSilent) })
	defer late.Stop()
	st, err := n.conn.OpenStream(n.ctx, urgencyControl)
	if err != nil {
		return fmt.Errorf("open control stream: %w", err)
	}
	n.control = st
	if err := wire.WritePreface(st, wire.Preface{Kind: wire.StreamControl}); err != nil {
		return fmt.Errorf("write preface: %w", err)
	}
	if n.s.renewNext {
		return n.renewFirst()
	}
	offer, err := n.offerable()
	if err != nil {
		return err
	}
	err = n.send(&wire.Hello{Gateway: n.s.o.Gateway, Boot: n.s.boot, Software: n.s.o.Software, Features: n.s.offeredFeatures(), Buffers: offer})
	if err != nil {
		return err
	}
	f, err := n.read()
	if err != nil {
		return err
	}
	w, ok := f.(*wire.Welcome)
	if !ok {
		return fmt.Errorf("frame type %#02x instead of Welcome: %w", f.Type(), errProtocol)
	}
	n.maxBatch, n.window, n.features = int(w.MaxBatch), n.s.o.Window, w.Features
	if w.Window > 0 {
		n.window = min(n.window, int(w.Window))
	}
	if n.maxBatch == 0 {
		n.maxBatch = wire.MaxLane - wire.AppendOverhead
	}
	for final := false; !final; {
		if f, err = n.read(); err != nil {
			return err
		}
		m, ok := f.(*wire.Marks)
		if !ok {
			return fmt.Errorf("frame type %#02x instead of Marks: %w", f.Type(), errProtocol)
		}
		n.takeMarks(m)
		final = m.Final
	}
	n.welcomed = true
	n.s.up(n.addr, w)
	n.s.heardTime(w.Time)
	return nil
}

// offerable lists the buffers for a Hello or an Offer that were not offered yet, and
// notes that they are now.
func (n *session) offerable() ([]weir.Buffer, error) {
	all, err := n.s.o.Buffers.List()
	if err != nil {
		return nil, fmt.Errorf("list buffers: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []weir.Buffer
	for _, b := range all {
		if _, known := n.states[b.ID]; known || n.asked[b.ID] {
			continue
		}
		if len(out) == wire.MaxBuffers {
			break
		}
		n.asked[b.ID] = true
		out = append(out, b)
	}
	return out, nil
}

// takeMarks notes what the cloud knows.
func (n *session) takeMarks(m *wire.Marks) {
	var aside []weir.BufferID
	n.mu.Lock()
	for _, b := range m.Buffers {
		delete(n.asked, b.ID)
		if sendAside(n.s.o.Mutations) && b.State == weir.BufferAside {
			b.State = weir.BufferNew
		}
		n.states[b.ID], n.high[b.ID] = b.State, b.Reached
		if b.State == weir.BufferAside {
			aside = append(aside, b.ID)
		}
	}
	for _, mark := range m.Marks {
		n.marks[mark.Buffer] = append(n.marks[mark.Buffer], mark)
	}
	for _, row := range m.Rows {
		n.rows[row.Buffer] = append(n.rows[row.Buffer], row)
	}
	n.mu.Unlock()
	for _, id := range aside {
		n.s.log.Error("the cloud cannot tell whether this buffer was delivered before: it is kept and not sent", "buffer", id)
		n.s.set(func(st *State) { st.addAside(id) })
	}
}

func (st *State) addAside(id weir.BufferID) {
	for _, a := range st.Aside {
		if a == id {
			return
		}
	}
	st.Aside = append(st.Aside, id)
}

// start opens the lanes, the most urgent first.
func (n *session) start() {
	n.heard.Store(time.Now().UnixNano())
	for i := range n.lanes {
		n.lanes[i] = newLane(n, weir.Lane(i))
	}
	n.wg.Go(n.readControl)
	n.wg.Go(n.keepAlive)
	for _, l := range n.lanes {
		n.wg.Go(l.run)
	}
}

// send writes a frame to the control stream.
func (n *session) send(f wire.Frame) error {
	n.writing <- struct{}{}
	defer func() { <-n.writing }()
	if err := wire.Write(n.control, f); err != nil {
		return fmt.Errorf("write to control stream: %w", err)
	}
	return nil
}

// read reads a frame of the control stream. Frames that end a session are returned as
// errors.
func (n *session) read() (wire.Frame, error) {
	f, err := wire.Read(n.control, wire.MaxControl)
	if err != nil {
		return nil, fmt.Errorf("read control stream: %w", err)
	}
	n.heard.Store(time.Now().UnixNano())
	switch f := f.(type) {
	case *wire.Redirect:
		return nil, &redirectError{f.Addr}
	case *wire.Goodbye:
		return nil, &wire.CloseError{Code: f.Code, Text: f.Text}
	}
	return f, nil
}

// readControl reads the control stream until the session ends.
func (n *session) readControl() {
	for {
		f, err := n.read()
		if err == nil {
			err = n.handle(f)
		}
		if err != nil {
			n.end(err)
			return
		}
	}
}

func (n *session) handle(f wire.Frame) error {
	switch f := f.(type) {
	case *wire.Marks:
		n.takeMarks(f)
		n.wakeAll()
		return n.retireKnown()
	case *wire.Topic:
		n.takeTopic(f)
		n.wakeAll()
	case *wire.Retired:
		n.mu.Lock()
		n.states[f.Buffer] = weir.BufferRetired
		n.mu.Unlock()
		return n.retireKnown()
	case *wire.Pong:
		n.s.heardTime(f.Time)
	case *wire.Certificate:
		return n.takeCertificate(f)
	default:
		return fmt.Errorf("frame type %#02x on the control stream: %w", f.Type(), errProtocol)
	}
	return nil
}

func (n *session) wakeAll() {
	for _, l := range n.lanes {
		l.wakeUp()
	}
}

// keepAlive does what is due from time to time: pings, questions, the certificate. It
// also wakes the lanes when the buffers have something new.
func (n *session) keepAlive() {
	ping := time.NewTicker(pingInterval)
	defer ping.Stop()
	silent := time.NewTimer(silence)
	defer silent.Stop()
	asked := time.Time{} // for a certificate
	if err := n.report(); err != nil {
		n.end(err)
		return
	}
	for {
		var err error
		if n.renewable() && time.Since(asked) > renewInterval {
			asked = time.Now()
			if err = n.askRenewal(); err != nil {
				n.end(err)
				return
			}
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.asking: // the time of a question has changed
		case <-n.s.o.Buffers.Notify():
			n.stored.Add(1)
			n.wakeAll()
		case <-n.nextQuestion():
			err = n.askAgain()
		case <-silent.C:
			if left := silence - time.Since(time.Unix(0, n.heard.Load())); left > 0 {
				silent.Reset(left)
			} else {
				err = errSilent
			}
		case <-ping.C:
			err = n.report()
		}
		if err != nil {
			n.end(err)
			return
		}
	}
}

// laneDone notes that a lane of an old buffer is settled. With the last of its lanes
// the buffer is retired.
func (n *session) laneDone(id weir.BufferID, l weir.Lane) error {
	n.mu.Lock()
	before := n.done[id]
	n.done[id] |= 1 << l
	all := n.done[id] == 1<<weir.Lanes-1 && before != n.done[id]
	if all {
		delete(n.marks, id)
		delete(n.rows, id)
	}
	n.mu.Unlock()
	if !all {
		return nil
	}
	return n.send(&wire.Retire{Buffer: id})
}

// retireKnown deletes the buffers that the cloud has retired. A Marks frame lists such
// buffers if the gateway or the link died between its Retire and the answer: what the
// gateway's disk says of them is older than what the cloud says.
func (n *session) retireKnown() error {
	all, err := n.s.o.Buffers.List()
	if err != nil {
		return fmt.Errorf("list buffers: %w", err)
	}
	for _, b := range all {
		n.mu.Lock()
		retired := n.states[b.ID] == weir.BufferRetired
		n.mu.Unlock()
		if !retired {
			continue
		}
		if b.Current { // never retired by this process, nor by an earlier one
			n.s.log.Error("the cloud says that the current buffer is retired: it is kept and not sent", "buffer", b.ID)
			n.s.set(func(st *State) { st.addAside(b.ID) })
			continue
		}
		for l, bounds := range b.Lanes {
			if bounds.First > bounds.Last {
				continue
			}
			if err := n.s.o.Buffers.Trim(b.ID, weir.Lane(l), bounds.Last); err != nil {
				return fmt.Errorf("trim retired buffer %s: %w", b.ID, err)
			}
		}
		if err := n.s.o.Buffers.Retire(b.ID); err != nil {
			return fmt.Errorf("delete retired buffer %s: %w", b.ID, err)
		}
		n.s.log.Info("buffer removed: it is retired in the cloud", "buffer", b.ID)
	}
	return nil
}

// state returns what the cloud knows of a buffer, and offers the buffer if that was not
// done yet.
func (n *session) state(id weir.BufferID) (st weir.BufferState, known bool, err error) {
	n.mu.Lock()
	st, known = n.states[id]
	n.mu.Unlock()
	if known {
		return st, true, nil
	}
	more, err := n.offerable()
	if err != nil || len(more) == 0 {
		return 0, false, err
	}
	return 0, false, n.send(&wire.Offer{Buffers: more})
}
