package kafka

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// write sends the replies in order, each when it is ready. It flushes the connection
// whenever there is nothing to send.
func (c *conn) write(ctx context.Context) error {
	for {
		var n *reply
		if err := receive(ctx, c, c.replies, &n); err != nil {
			return err
		}
		if err := receive(ctx, c, n.ready, &struct{}{}); err != nil {
			return err
		}
		err := c.reply(ctx, n)
		n.request.dropAnswer()
		if err != nil {
			return err
		}
		close(n.sent)
		n.request.answered()
		if n.request.last {
			return cmp.Or(c.flush(), errGone)
		}
	}
}

// reply sends one reply, if it has a response.
func (c *conn) reply(ctx context.Context, n *reply) error {
	c.meter.Answer(n.request.watch)
	resp, err := n.finish()
	c.meter.Worked()
	if err != nil {
		return fmt.Errorf("client %q: %w", n.request.clientID, err)
	}
	c.s.count.answered(n.request, resp)
	if resp == nil {
		return nil
	}
	return gone(c.send(ctx, n.request, resp))
}

// receive receives from a channel. It flushes what was written if it has to wait.
func receive[T any](ctx context.Context, c *conn, from <-chan T, to *T) error {
	select {
	case *to = <-from:
		return nil
	default:
	}
	if c.bw.Buffered() > 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	select {
	case *to = <-from:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush sends what was written.
func (c *conn) flush() error {
	return gone(c.put(c.bw.Buffered(), c.bw.Flush))
}

// put performs a write of so many bytes. The client has FrameTime to take them.
func (c *conn) put(bytes int, write func() error) error {
	now := time.Now()
	if err := c.nc.SetWriteDeadline(now.Add(c.s.o.FrameTime)); err != nil {
		return err
	}
	c.stuck.Store(now.UnixNano())
	defer c.stuck.Store(0)
	return c.meter.Write(bytes, write)
}

// send writes one response. Record batches are not copied.
func (c *conn) send(ctx context.Context, r *request, resp kmsg.Response) error {
	p := append(c.buf[:0], 0, 0, 0, 0)
	p = binary.BigEndian.AppendUint32(p, uint32(r.correlation))
	if resp.IsFlexible() && r.api.key != kmsg.ApiVersions { // the header of ApiVersions is never flexible (KIP-511)
		p = append(p, 0)
	}
	if f, ok := resp.(*fetchResponse); ok {
		chunks, size := f.chunks(p)
		binary.BigEndian.PutUint32(chunks[0], uint32(size-4))
		c.meter.Worked()
		err := c.sendChunks(chunks)
		f.release()
		return err
	}
	p = resp.AppendTo(p)
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	c.keep(p)
	c.meter.Worked()
	if len(p) > smallAnswer {
		if err := r.room(ctx, len(p), len(p)); err != nil {
			return err
		}
	}
	if err := c.put(len(p), func() error {
		_, err := c.bw.Write(p)
		return err
	}); err != nil {
		return err
	}
	c.listener.Traffic.Sent.Add(uint64(len(p)))
	return nil
}

// sendChunks writes a response that is too large to be copied. The client has
// FrameTime for each stride: a larger response may take longer in total.
func (c *conn) sendChunks(chunks net.Buffers) error {
	if err := c.flush(); err != nil {
		return err
	}
	for len(chunks) > 0 {
		n, size := 1, len(chunks[0])
		for n < len(chunks) && size+len(chunks[n]) <= stride {
			size += len(chunks[n])
			n++
		}
		some := chunks[:n:n]
		chunks = chunks[n:]
		if err := c.put(size, func() error {
			_, err := some.WriteTo(c.nc)
			return err
		}); err != nil {
			return err
		}
		c.listener.Traffic.Sent.Add(uint64(size))
	}
	return nil
}

func (c *conn) keep(p []byte) {
	if cap(p) <= keepBuffer {
		c.buf = p
	}
}

// smallAnswer is how many bytes of an answer a connection may hold without a claim.
const smallAnswer = 64 << 10

// room takes memory for an answer. It takes want or, if the pool is short, part of
// it. It waits only for least. Clients that do not read their answers while others
// wait for memory are closed (Server.police).
func (r *request) room(ctx context.Context, want, least int) (err error) {
	r.dropAnswer()
	peer, most := r.conn.answers, r.conn.s.largestAnswer()
	want, least = min(want, most), min(least, most)
	for n := want; n > least; n /= 4 {
		if r.answer = peer.TryTake(int64(n)); r.answer != nil {
			return nil
		}
	}
	defer stopwatch.Waiting(ctx)()
	r.answer, err = peer.Take(ctx, int64(max(least, 1)))
	return err
}

// dropAnswer returns the memory that room took.
func (r *request) dropAnswer() {
	if r.answer != nil {
		r.answer.Release()
		r.answer = nil
	}
}

// closeStuck closes connections whose clients have read nothing since before.
func (s *Server) closeStuck(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if since := c.stuck.Load(); since != 0 && since < before.UnixNano() {
			c.cancel(budget.ErrUnread)
		}
	}
}
