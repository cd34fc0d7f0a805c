package peer

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

const (
	// attachWindow is how many bytes of batches a door has at an owner that are not
	// answered: those for one shard take half of it at most.
	attachWindow = 8 << 20
	// batchCost is what a batch takes of it besides its bytes.
	batchCost = 512
)

// errSilent is of batches that would be too many for a shard that does not answer.
var errSilent = fmt.Errorf("%w: the owner of the shard does not answer", uplink.ErrBusy)

// Number asks a node, by its name and host:port, for a number for a session of a gateway
// that lies in that shard. The errors are those of an uplink.Attachment.
func (c *Client) Number(ctx context.Context, node, address string, shard uint32, gateway string) (uplink.Number, error) {
	s := c.attachStream(node, address)
	l, err := s.newLink(shard, "", func(error) {})
	if err != nil {
		return uplink.Number{}, err
	}
	defer s.forget(l)
	a := l.ask(ctx, kindNumber, func(b []byte) []byte {
		b = binary.AppendUvarint(b, uint64(shard))
		if gateway != "" {
			b = coding.AppendString(b, gateway)
		}
		return b
	})
	return a.number, a.err
}

// Attach attaches a session to a shard of a node, by its name and host:port. It is
// uplink.Owner.Attach there, and end is also called when the connection breaks.
func (c *Client) Attach(ctx context.Context, node, address string, shard uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	l, err := c.attachStream(node, address).newLink(shard, gateway, end)
	if err != nil {
		return nil, uplink.Offered{}, err
	}
	a := l.ask(ctx, kindAttach, attachQuestion{shard, gateway, n, buffers}.encode)
	if a.err != nil {
		l.Detach()
		return nil, uplink.Offered{}, a.err
	}
	return l, a.known, nil
}

// attachStream returns the stream to a node, which it opens if there is none.
func (c *Client) attachStream(node, address string) *ownerStream {
	key := node + "\n" + address + "\n" + attachPath // a connection of its own, for its bytes
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[key]; s != nil && !s.over() {
		return s
	}
	s := &ownerStream{done: make(chan struct{}), out: newOutgoing(), window: uplink.NewWindow(attachWindow, false), links: make(map[uint32]*ownerLink)}
	c.streams[key] = s
	l := newLink(address, c.identity.ClientTLS(node))
	if c.Dial != nil {
		l.open = c.Dial
	}
	s.close, s.refused = l.close, l.refused
	go func() {
		defer close(s.done)
		err := s.run(l)
		c.mu.Lock()
		if c.streams[key] == s {
			delete(c.streams, key)
		}
		c.mu.Unlock()
		s.fail(err)
		l.close()
	}()
	return s
}

// ownerStream is a stream of attach at the door.
type ownerStream struct {
	out     *outgoing
	window  *uplink.Window
	close   func()        // ends the connection
	refused func() bool   // reports whether the other end is not admitted any more
	done    chan struct{} // closed when nothing of the stream runs any more

	mu    sync.Mutex            // guards what follows, and the fields of links
	err   error                 // why it has ended; nil while it has not
	next  uint32                // number of the last link
	links map[uint32]*ownerLink // that are not detached
}

func (s *ownerStream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// run opens the stream and reads until it ends. It returns why.
func (s *ownerStream) run(l *link) error {
	req, err := http.NewRequestWithContext(l.ctx, http.MethodPost, "http://node"+attachPath, s.out)
	if err != nil {
		return err
	}
	res, err := l.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return ErrUnknownVerb
	default:
		return fmt.Errorf("status %s", res.Status)
	}
	r := bufio.NewReaderSize(res.Body, readAtFirst)
	for {
		m, err := readMessage(r, maxAnswering)
		if err == nil {
			err = s.take(m)
		}
		if err != nil {
			return err
		}
	}
}

// take takes a message of the owner.
func (s *ownerStream) take(m message) error {
	s.mu.Lock()
	l := s.links[m.link]
	s.mu.Unlock()
	switch {
	case l == nil: // it was detached meanwhile
		return nil
	case m.kind == kindEnded && len(m.body) == 1 && m.body[0] != 0:
		l.end(errorOf(m.body[0], ""))
		return nil
	case m.kind != kindAnswer:
		return fmt.Errorf("%w: kind %d", errStream, m.kind)
	}
	return l.answered(m)
}

// fail ends the stream: nothing is answered any more.
func (s *ownerStream) fail(err error) {
	if errors.Is(err, io.EOF) {
		err = errors.New("the other node has ended the stream")
	}
	s.mu.Lock()
	s.err = fmt.Errorf("%w: %w", uplink.ErrDetached, err)
	links := s.links
	s.links = nil
	s.mu.Unlock()
	s.out.Close()
	s.window.Close()
	for _, l := range links {
		l.end(uplink.ErrDetached)
		l.drop(s.err)
	}
}

func (s *ownerStream) newLink(shard uint32, gateway string, end func(error)) (*ownerLink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.next++
	l := &ownerLink{s: s, id: s.next, shard: shard, gateway: gateway, end: end, calls: make(map[uint32]call)}
	s.links[l.id] = l
	return l, nil
}

// forget removes a link and reports whether it was there.
func (s *ownerStream) forget(l *ownerLink) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links[l.id] != l {
		return false
	}
	delete(s.links, l.id)
	return true
}

// ownerLink implements uplink.Attachment for a shard of another node.
type ownerLink struct {
	s       *ownerStream
	id      uint32
	shard   uint32
	gateway string
	end     func(error)

	// Guarded by ownerStream.mu:
	over  error           // why nothing is sent any more
	next  uint32          // number of the last request
	calls map[uint32]call // that are not answered
}

// call is a request that was sent.
type call struct {
	kind byte
	cost int64 // of the window
	done func(answer)
}

// send sends a request. done is called once, unless send returns an error.
func (l *ownerLink) send(kind byte, cost int64, body func([]byte) []byte, done func(answer)) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.over != nil {
		return l.over
	}
	l.next++
	l.calls[l.next] = call{kind, cost, done}
	l.s.out.put(kind, l.id, l.next, body) // with mu held: batches keep their order
	return nil
}

// ask sends a request and waits for the answer.
func (l *ownerLink) ask(ctx context.Context, kind byte, body func([]byte) []byte) answer {
	got := make(chan answer, 1)
	if err := l.send(kind, 0, body, func(a answer) { got <- a }); err != nil {
		return answer{err: err}
	}
	select {
	case a := <-got:
		return a
	case <-ctx.Done():
		return answer{err: context.Cause(ctx)}
	}
}

// answered passes on an answer.
func (l *ownerLink) answered(m message) error {
	l.s.mu.Lock()
	c, ok := l.calls[m.request]
	delete(l.calls, m.request)
	l.s.mu.Unlock()
	if !ok {
		return fmt.Errorf("%w: nothing was asked as request %d", errStream, m.request)
	}
	a, err := decodeStreamAnswer(m.body, c.kind)
	if err != nil {
		a = answer{err: fmt.Errorf("%w: %w", uplink.ErrDetached, err)}
	}
	l.s.window.Give(l.shard, c.cost)
	c.done(a)
	return err
}

// drop answers all that was not answered.
func (l *ownerLink) drop(err error) {
	l.s.mu.Lock()
	calls := l.calls
	l.calls, l.over = nil, err
	l.s.mu.Unlock()
	for _, c := range calls {
		l.s.window.Give(l.shard, c.cost)
		c.done(answer{err: err})
	}
}

// Append implements uplink.Attachment. It waits while the owner has too many bytes of this
// node that it has not answered, or the shard has as many as are left for the others. If
// the shard is silent it is uplink.ErrBusy.
func (l *ownerLink) Append(a uplink.Append, done func(error)) {
	cost, ok := l.s.window.Take(l.shard, int64(len(a.Batch))+batchCost)
	if !ok {
		done(errSilent)
		return
	}
	err := l.send(kindAppend, cost, func(b []byte) []byte { return encodeAppend(b, a) }, func(a answer) { done(a.err) })
	if err != nil {
		l.s.window.Give(l.shard, cost)
		done(err)
	}
}

// Offer implements uplink.Attachment.
func (l *ownerLink) Offer(ctx context.Context, buffers []weir.Buffer) (uplink.Offered, error) {
	a := l.ask(ctx, kindOffer, func(b []byte) []byte { return appendBuffers(b, buffers) })
	return a.known, a.err
}

// Mark implements uplink.Attachment. The owner hears it behind all Appends before.
func (l *ownerLink) Mark(ctx context.Context, s weir.Stream, topic weir.TopicID, partition int32) (uint64, error) {
	a := l.ask(ctx, kindMark, func(b []byte) []byte { return appendTarget(b, s.Buffer, s.Lane, topic, partition) })
	return a.mark, a.err
}

// Retire implements uplink.Attachment.
func (l *ownerLink) Retire(ctx context.Context, buffer weir.BufferID) error {
	return l.ask(ctx, kindRetire, func(b []byte) []byte { return append(b, buffer[:]...) }).err
}

// Detach implements uplink.Attachment.
func (l *ownerLink) Detach() {
	if l.s.forget(l) {
		l.s.out.put(kindDetach, l.id, 0, nil)
		l.drop(uplink.ErrDetached)
	}
}
