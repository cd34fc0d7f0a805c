package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/freelist"
	"github.com/weirmq/weir/storage/pause"
)

// read reads requests until the client goes, is idle, or violates the protocol.
func (c *conn) read(ctx context.Context) error {
	for {
		size, err := c.awaitFrame()
		if err != nil {
			return gone(err)
		}
		if size == hasten && c.tunnel {
			if err := c.hastened(); err != nil {
				return gone(err)
			}
			continue
		}
		if err := c.unmuted(ctx); err != nil {
			return err
		}
		r, err := c.readHead(size)
		if err != nil {
			return gone(err)
		}
		if err := r.line(ctx); err != nil {
			return err
		}
		if err := c.readBody(ctx, r); err != nil {
			r.release()
			return gone(err)
		}
		c.s.count.read(r)
		c.heard()
		select {
		case c.requests <- r:
		case <-ctx.Done():
			r.release()
			return ctx.Err()
		}
	}
}

// mute makes read wait, as backpressure on this client only. It never shortens an
// earlier wait.
func (c *conn) mute(d time.Duration) {
	until := time.Now().Add(d).UnixNano()
	for old := c.muted.Load(); until > old && !c.muted.CompareAndSwap(old, until); {
		old = c.muted.Load()
	}
}

// unmuted waits until the time set by mute is over.
func (c *conn) unmuted(ctx context.Context) error {
	wait := time.Until(time.Unix(0, c.muted.Load()))
	if wait <= 0 {
		return nil
	}
	return pause.For(ctx, wait)
}

// awaitFrame waits for the length of the next frame. A client that waits for an
// answer is not idle; one that has sent part of a length is.
func (c *conn) awaitFrame() (int, error) {
	for c.br.Buffered() == 0 {
		if err := c.nc.SetReadDeadline(time.Now().Add(c.s.o.IdleTimeout)); err != nil {
			return 0, err
		}
		_, err := c.br.Peek(1)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if len(c.flying) > 0 {
				continue
			}
			return 0, errGone
		}
		if err != nil {
			return 0, err
		}
	}
	p, err := c.peek(4)
	if err != nil {
		return 0, err
	}
	_, _ = c.br.Discard(4)
	return int(int32(binary.BigEndian.Uint32(p))), nil
}

// peek returns the next n bytes. The client has FrameTime to send them.
func (c *conn) peek(n int) ([]byte, error) {
	if c.br.Buffered() < n {
		if err := c.nc.SetReadDeadline(time.Now().Add(c.s.o.FrameTime)); err != nil {
			return nil, err
		}
	}
	p, err := c.br.Peek(n)
	return p, frameError(err)
}

// readHead reads the header fields that decide whether the rest is read.
func (c *conn) readHead(size int) (*request, error) {
	if size < requestHeader || size > c.s.o.MaxRequest {
		return nil, violated("frame of %d bytes is not a request that is served here%s", size, foreign(size))
	}
	p, err := c.peek(requestHeader)
	if err != nil {
		return nil, err
	}
	h := reader{p: p}
	key, version, correlation := h.int16(), h.int16(), h.int32()
	a := c.s.api(key)
	if a == nil {
		return nil, violated("api key %d is not served", key)
	}
	// A client that asks for versions cannot know them, so a version that is too new is
	// answered.
	if version < a.min || version > a.max && a.key != kmsg.ApiVersions {
		return nil, violated("%s version %d is not served", a.key.Name(), version)
	}
	if err := c.admits(a.key); err != nil {
		return nil, violation{err}
	}
	if size > a.limit {
		return nil, violated("%s request of %d bytes, at most %d are allowed", a.key.Name(), size, a.limit)
	}
	return &request{api: a, version: version, correlation: correlation, size: size, conn: c}, nil
}

// foreign names another protocol that would begin with such a length.
func foreign(size int) string {
	switch p := binary.BigEndian.AppendUint32(nil, uint32(size)); {
	case string(p) == "GET " || string(p) == "POST" || string(p) == "HEAD":
		return ": this looks like HTTP"
	case p[0] == 0x16 && p[1] == 3:
		return ": this looks like TLS"
	}
	return ""
}

// line waits until the request may be read. The number of requests without an answer
// is limited, and after a request other than Produce nothing is read before it is
// answered. So a request that waits behind a long poll, or behind a client that takes
// no answers, holds only memory that the connection has anyway.
func (r *request) line(ctx context.Context) error {
	c := r.conn
	for _, tokens := range []chan struct{}{c.flying, c.turn} {
		select {
		case tokens <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if r.api.key == kmsg.Produce {
		<-c.turn
	}
	return nil
}

// answered records that the answer to a request is on its way, or that there is none.
func (r *request) answered() {
	r.dropAnswer()
	if r.api.key != kmsg.Produce {
		<-r.conn.turn
	}
	<-r.conn.flying
}

// readBody reads the frame into memory of its own, which the records of a Produce
// alias until they are durable. A small frame is paid for when it has arrived in the
// connection's buffer, a large one piece by piece.
func (c *conn) readBody(ctx context.Context, r *request) (err error) {
	memory := c.memory.Load()
	if r.size <= smallFrame {
		p, err := c.peek(r.size)
		if err != nil {
			return err
		}
		if r.claim, err = memory.Take(ctx, int64(r.size)+requestCost); err != nil {
			return err
		}
		r.frame = append(r.buffers().Get(r.size), p...)
		_, _ = c.br.Discard(r.size)
	} else {
		r.claim = memory.Claim(int64(r.size))
		f := budget.Frame{Whole: c.s.o.FrameTime, Buffers: r.buffers()}
		if r.frame, err = f.Read(ctx, c.nc.SetReadDeadline, c.br, r.claim, r.size); err != nil {
			return frameError(err)
		}
	}
	h := reader{p: r.frame[requestHeader:]}
	r.clientID = string(h.nullableString()) // not compact in either header version
	if h.flexible = r.version >= r.api.flexible; h.flexible {
		h.tags()
	}
	if err := h.err(); err != nil {
		return violated("decode header of %s: %w", r.api.key.Name(), err)
	}
	r.body = h.p
	return nil
}

func frameError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, budget.ErrSlow) {
		return fmt.Errorf("request stopped arriving: %w", err)
	}
	return err
}

// buffers returns where the frame of a Produce comes from and is put back. It is nil
// for other requests: for them it is not known when the frame is no longer
// referenced.
func (r *request) buffers() *freelist.List {
	if r.api.key == kmsg.Produce {
		return r.conn.s.buffers
	}
	return nil
}

// release returns the request's memory: the frame is no longer referenced. Only the
// first call counts.
func (r *request) release() {
	r.buffers().Put(r.frame)
	r.frame, r.body = nil, nil
	if r.claim != nil {
		r.claim.Release()
	}
}

// heard records that the client has sent a whole request. A client that need not log
// in is then no longer a stranger.
func (c *conn) heard() {
	if c.met {
		return
	}
	c.met = true
	if c.tunnel {
		return // its seat is at the client's node
	}
	c.seat.Heard()
	if c.session.Known() {
		c.seat.Known()
	}
}
