package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
)

const (
	// relayBuffer is how much is gathered before it is sent to an owner, in bytes.
	relayBuffer = 16 << 10
	// maxLate is how many answers a tunnel may owe that nobody waits for any more. With more
	// it ends.
	maxLate = 32
	// maxRelayed bounds one answer of an owner, in bytes.
	maxRelayed = 256 << 20
)

var (
	errRelay = errors.New("malformed answer")
	errLate  = errors.New("owner does not answer")
)

// tunnel is a tunnel at the client's node.
type tunnel struct {
	ctx    context.Context // ends with the tunnel
	cancel context.CancelFunc
	wake   chan struct{} // a token: there is something to send
	wg     sync.WaitGroup

	mu      sync.Mutex
	last    int32         // correlation id; guarded by mu
	unsent  []*exchange   // guarded by mu; an exchange that is hastened is there again
	waiting []*exchange   // for an answer, in order; guarded by mu
	sending *exchange     // its bytes are in use; guarded by mu
	late    int           // of those in waiting, the ones that were left; guarded by mu
	caught  chan struct{} // closed when there is none of these; nil: nobody has asked; guarded by mu
	err     error         // why the tunnel has ended; guarded by mu
}

// exchange is a request to an owner, and its answer.
type exchange struct {
	key, version int16
	clientID     string
	tagged       bool        // both headers have tagged fields
	body         net.Buffers // of the request; nil: it was sent

	// done is called once, with the body of the answer, or an error: then it is not known
	// whether the owner has performed the request. The bytes of the request are no longer
	// in use, unless it was left. It must not block.
	done func(answer []byte, err error)

	correlation int32
	answer      []byte
	begun       bool // the sender has it, or had it; guarded by tunnel.mu
	left        bool // nobody waits for the answer, which is dropped; guarded by tunnel.mu
	hastened    bool // it was sent, and is in unsent to be hastened; guarded by tunnel.mu
	over        bool // done was called, or is about to be; guarded by tunnel.mu
}

// send sends a request. Requests are performed in the order of the calls.
func (t *tunnel) send(x *exchange) {
	t.mu.Lock()
	err := t.err
	if err == nil {
		t.last++
		x.correlation = t.last
		t.unsent, t.waiting = append(t.unsent, x), append(t.waiting, x)
	}
	t.mu.Unlock()
	if err != nil {
		x.done(nil, err)
		return
	}
	t.signal()
}

// hasten makes the owner answer a request that waits for records.
func (t *tunnel) hasten(x *exchange) {
	t.mu.Lock()
	if t.err == nil && !x.over && !slices.Contains(t.unsent, x) {
		x.hastened = true
		t.unsent = append(t.unsent, x)
	}
	t.mu.Unlock()
	t.signal()
}

// leave ends an exchange that takes too long, unless it has ended: done gets errLate. If the
// owner has got the request, it performs it when it can, and its answer is dropped. The
// tunnel stays, and so does the order of what is sent through it. The bytes of the request may
// be on their way: they are not to be used again.
func (t *tunnel) leave(x *exchange) {
	t.mu.Lock()
	if x.over {
		t.mu.Unlock()
		return
	}
	x.over = true
	done := x.done
	if x.begun {
		x.left, x.done = true, nil // which refers to the request
		t.late++
	} else {
		is := func(other *exchange) bool { return other == x }
		t.unsent, t.waiting = slices.DeleteFunc(t.unsent, is), slices.DeleteFunc(t.waiting, is)
	}
	tooMany := t.late > maxLate
	t.mu.Unlock()
	done(nil, errLate)
	if tooMany {
		t.fail(errLate)
	}
}

// behind returns nil if the owner owes no answer that nobody waits for any more. Else what
// is sent now has to wait for that too; the channel is closed when it has come, or never will.
func (t *tunnel) behind() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.late == 0 || t.err != nil {
		return nil
	}
	if t.caught == nil {
		t.caught = make(chan struct{})
	}
	return t.caught
}

// catchUp closes the channel of behind. t.mu is held.
func (t *tunnel) catchUp() {
	if t.caught != nil {
		close(t.caught)
		t.caught = nil
	}
}

func (t *tunnel) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tunnel) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil
}

// fail ends the tunnel, and all exchanges without an answer. Only the first call counts.
func (t *tunnel) fail(err error) {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.err = err
	lost := t.waiting
	t.waiting, t.unsent = nil, nil
	t.catchUp()
	lost = slices.DeleteFunc(lost, func(x *exchange) bool { return x == t.sending || x.left }) // its sender ends it, or it has ended
	for _, x := range lost {
		x.over = true
	}
	t.mu.Unlock()
	t.cancel()
	for _, x := range lost {
		x.done(nil, err)
	}
}

// run opens the tunnel, and sends and receives until it ends. It returns why.
func (t *tunnel) run(open func(context.Context, Tunnel) (io.ReadWriteCloser, error), hello Tunnel) error {
	stream, err := open(t.ctx, hello)
	if err != nil {
		return err
	}
	closed := context.AfterFunc(t.ctx, func() { _ = stream.Close() })
	defer func() {
		if closed() {
			_ = stream.Close()
		}
	}()
	t.wg.Go(func() { t.fail(t.receive(bufio.NewReaderSize(stream, relayBuffer))) })
	w := bufio.NewWriterSize(stream, relayBuffer)
	for {
		x, hasten := t.next()
		switch {
		case x == nil:
			if err := w.Flush(); err != nil {
				return err
			}
			select {
			case <-t.wake:
			case <-t.ctx.Done():
				return t.ctx.Err()
			}
		case hasten:
			_, err = w.Write(binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, uint32(x.correlation)))
		default:
			err = x.write(w)
			t.sent(x)
		}
		if err != nil {
			return err
		}
	}
}

// next returns what is to be sent next, nil if there is nothing.
func (t *tunnel) next() (x *exchange, hasten bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.unsent) == 0 {
		return nil, false
	}
	x = t.unsent[0]
	t.unsent = t.unsent[1:]
	if x.hastened {
		return x, true
	}
	t.sending, x.begun = x, true
	return x, false
}

// sent says that the bytes of a request are no longer in use.
func (t *tunnel) sent(x *exchange) {
	x.body = nil // the answer may be late, or never come
	t.mu.Lock()
	t.sending = nil
	err := t.err
	lost, answered := err != nil && !x.over, x.over && !x.left
	x.over = x.over || lost
	t.mu.Unlock()
	switch {
	case lost:
		x.done(nil, err)
	case answered:
		x.answered()
	}
}

// write writes the request.
func (x *exchange) write(w *bufio.Writer) error {
	size := requestHeader + 2 + len(x.clientID)
	if x.tagged {
		size++
	}
	for _, b := range x.body {
		size += len(b)
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(size))
	p = binary.BigEndian.AppendUint16(p, uint16(x.key))
	p = binary.BigEndian.AppendUint16(p, uint16(x.version))
	p = binary.BigEndian.AppendUint32(p, uint32(x.correlation))
	p = binary.BigEndian.AppendUint16(p, uint16(len(x.clientID)))
	p = append(p, x.clientID...)
	if x.tagged {
		p = append(p, 0)
	}
	_, err := w.Write(p)
	for _, b := range x.body {
		if err == nil {
			_, err = w.Write(b)
		}
	}
	return err
}

// receive passes answers on until the tunnel ends. It returns why.
func (t *tunnel) receive(r io.Reader) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint32(head[:]))
		if size < 4 || size > maxRelayed {
			return fmt.Errorf("%w: of %d bytes", errRelay, size)
		}
		x, left := t.first(int32(binary.BigEndian.Uint32(head[4:])))
		if x == nil {
			return fmt.Errorf("%w: nobody waits for it", errRelay)
		}
		var body []byte
		if left {
			_, err := io.CopyN(io.Discard, r, size-4)
			if err != nil {
				return err
			}
		} else {
			body = make([]byte, size-4)
			if _, err := io.ReadFull(r, body); err != nil {
				return err
			}
		}
		if t.got(x, body) {
			x.answered()
		}
	}
}

// first returns the exchange whose answer has come next, nil if there is none, and whether
// that was left.
func (t *tunnel) first(correlation int32) (x *exchange, left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 || t.waiting[0].correlation != correlation {
		return nil, false
	}
	return t.waiting[0], t.waiting[0].left
}

// got takes the answer to the first exchange. It reports whether to pass it on now: not if
// nobody waits for it, or if the request's last write has not returned yet.
func (t *tunnel) got(x *exchange, body []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 || t.waiting[0] != x {
		return false // the tunnel has ended
	}
	t.waiting = t.waiting[1:]
	if x.left {
		if t.late--; t.late == 0 {
			t.catchUp()
		}
		return false
	}
	x.answer, x.over = body, true
	return x != t.sending
}

// answered passes the answer on.
func (x *exchange) answered() {
	body := x.answer
	if x.tagged && (len(body) == 0 || body[0] != 0) {
		x.done(nil, fmt.Errorf("%w: its header has tagged fields", errRelay))
		return
	}
	if x.tagged {
		body = body[1:]
	}
	x.done(body, nil)
}
