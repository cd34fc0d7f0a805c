package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

const attachPath = "/peer/v1/attach"

// Attachments are the calls of a node that owns shards which a door needs.
type Attachments struct {
	// Number is uplink.Owner.Number of the owner of that shard here. gateway is "" if the
	// door does not name it, as its slice cannot have moved.
	Number func(shard uint32, gateway string) (uplink.Number, error)
	// Attach is uplink.Owner.Attach.
	Attach func(ctx context.Context, shard uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error)
}

// attach serves the sessions that a door has at shards of this node, until the stream ends.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) {
	if s.o.Attachments.Attach == nil {
		http.NotFound(w, r)
		return
	}
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	d := &doorStream{of: s.o.Attachments, ctx: ctx, out: newOutgoing(), room: uplink.NewWindow(2*attachWindow, true),
		links: make(map[uint32]*doorLink), queues: make(map[uint32][]func())}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer d.out.Close() // ends the loop below
		if err := d.read(bufio.NewReaderSize(r.Body, readAtFirst)); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("another node sent something that cannot be read over --peer", "node", asker(r), "err", err)
		}
	})
	stop := context.AfterFunc(s.ctx, func() { r.Body.Close() })
	defer stop()
	buffer := make([]byte, readAtFirst)
	for {
		n, err := d.out.Read(buffer)
		if err == nil {
			_, err = w.Write(buffer[:n])
		}
		if err == nil {
			err = control.Flush()
		}
		if err != nil { // the stream is over, or the door has gone
			break
		}
	}
	cancel()
	d.room.Close()
	r.Body.Close()
	reading.Wait()
	d.close()
}

// doorStream is a stream of attach at the owner.
type doorStream struct {
	of   Attachments
	ctx  context.Context // of the stream
	out  *outgoing
	room *uplink.Window // bounds the bytes of queues; a door that keeps to its own window never fills it
	wg   sync.WaitGroup // requests that wait for something

	mu     sync.Mutex
	links  map[uint32]*doorLink // guarded by mu
	queues map[uint32][]func()  // by shard, what waits for its log, while a goroutine runs that; guarded by mu
}

// doorLink is one attachment.
type doorLink struct {
	shard   uint32
	gateway string
	cancel  context.CancelFunc
	at      uplink.Attachment // nil until it is attached; guarded by doorStream.mu
}

// read takes messages until the stream ends. An error means that one cannot be read.
func (d *doorStream) read(r *bufio.Reader) error {
	for {
		m, err := readMessage(r, maxQuestion)
		if err == io.EOF || err != nil && d.ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = d.take(m)
		}
		if err != nil {
			return err
		}
	}
}

// take answers a message. The batches for a shard are handed over in the order in which
// they come, and before what comes after them is asked there. It does not wait for a log
// that takes none: the other shards and a new session do not wait behind it.
func (d *doorStream) take(m message) error {
	switch m.kind {
	case kindNumber:
		in := coding.NewDecoder(m.body)
		shard, gateway := uint32(in.UpTo(1<<32-1)), ""
		if in.Len() > 0 {
			gateway = in.String()
		}
		if err := end(&in); err != nil {
			return err
		}
		var a answer
		a.number, a.err = d.of.Number(shard, gateway)
		d.answer(m, a)
		return nil
	case kindAttach:
		return d.attach(m)
	}
	d.mu.Lock()
	l := d.links[m.link]
	var at uplink.Attachment
	if l != nil {
		at = l.at
	}
	d.mu.Unlock()
	switch {
	case m.kind == kindDetach:
		d.detach(m.link, l)
		return nil
	case at == nil: // it has ended
		d.answer(m, answer{err: uplink.ErrDetached})
		return nil
	case m.kind == kindAppend:
		a, err := decodeAppend(m.body, l.gateway)
		if err != nil {
			return err
		}
		d.queue(l.shard, len(m.body), func() { at.Append(a, func(err error) { d.answer(m, answer{err: err}) }) })
		return nil
	}
	return d.ask(m, at, l)
}

// queue runs f behind all that was queued for the shard before. After the end of the
// stream it does not run f.
func (d *doorStream) queue(shard uint32, size int, f func()) {
	cost, _ := d.room.Take(shard, int64(size)+batchCost)
	d.mu.Lock()
	defer d.mu.Unlock()
	waiting, runs := d.queues[shard]
	d.queues[shard] = append(waiting, func() {
		if d.ctx.Err() == nil {
			f()
		}
		d.room.Give(shard, cost)
	})
	if !runs {
		d.wg.Go(func() { d.work(shard) })
	}
}

// work runs what is queued for a shard until nothing is.
func (d *doorStream) work(shard uint32) {
	for {
		d.mu.Lock()
		waiting := d.queues[shard]
		if len(waiting) == 0 {
			delete(d.queues, shard)
			d.mu.Unlock()
			return
		}
		d.queues[shard] = nil
		d.mu.Unlock()
		for _, f := range waiting {
			f()
		}
	}
}

// ask answers a question about an attachment, behind the batches that came before.
func (d *doorStream) ask(m message, at uplink.Attachment, l *doorLink) error {
	in := coding.NewDecoder(m.body)
	var ask func() answer
	switch m.kind {
	case kindOffer:
		buffers := takeBuffers(&in)
		ask = func() (a answer) { a.known, a.err = at.Offer(d.ctx, buffers); return a }
	case kindMark:
		t := takeTarget(&in)
		stream := weir.Stream{Gateway: l.gateway, Buffer: t.Buffer, Lane: t.Lane}
		ask = func() (a answer) { a.mark, a.err = at.Mark(d.ctx, stream, t.Topic, t.Partition); return a }
	case kindRetire:
		buffer := weir.BufferID(in.Take(12))
		ask = func() answer { return answer{err: at.Retire(d.ctx, buffer)} }
	default:
		return fmt.Errorf("%w: kind %d", errStream, m.kind)
	}
	if err := end(&in); err != nil {
		return err
	}
	d.queue(l.shard, len(m.body), func() { d.wg.Go(func() { d.answer(m, ask()) }) })
	return nil
}

// attach begins an attachment.
func (d *doorStream) attach(m message) error {
	q, err := decodeAttach(m.body)
	if err != nil {
		return err
	}
	l := &doorLink{shard: q.shard, gateway: q.gateway}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(d.ctx)
	d.mu.Lock()
	if d.links[m.link] != nil {
		d.mu.Unlock()
		l.cancel()
		return fmt.Errorf("%w: attachment %d is there", errStream, m.link)
	}
	d.links[m.link] = l
	d.mu.Unlock()
	d.wg.Go(func() {
		ended := func(err error) {
			d.out.put(kindEnded, m.link, 0, func(b []byte) []byte { return append(b, codeOf(err)) })
		}
		at, known, err := d.of.Attach(ctx, q.shard, q.gateway, q.number, q.buffers, ended)
		if err == nil {
			d.mu.Lock()
			kept := d.links[m.link] == l
			if kept {
				l.at = at
			}
			d.mu.Unlock()
			if !kept {
				at.Detach()
				return
			}
		}
		d.answer(m, answer{err: err, known: known})
		if err != nil {
			d.detach(m.link, l)
		}
	})
	return nil
}

// answer sends the answer to a message.
func (d *doorStream) answer(to message, a answer) {
	d.out.put(kindAnswer, to.link, to.request, func(b []byte) []byte { return a.encode(b, to.kind) })
}

// detach ends an attachment.
func (d *doorStream) detach(id uint32, l *doorLink) {
	if l == nil {
		return
	}
	d.mu.Lock()
	if d.links[id] == l {
		delete(d.links, id)
	}
	at := l.at
	d.mu.Unlock()
	l.cancel()
	if at != nil {
		at.Detach()
	}
}

// close ends all attachments, after the stream.
func (d *doorStream) close() {
	d.mu.Lock()
	all := make(map[uint32]*doorLink, len(d.links))
	for id, l := range d.links {
		all[id] = l
	}
	d.mu.Unlock()
	for id, l := range all {
		d.detach(id, l)
	}
	d.wg.Wait()
}
