package receiver

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// next reads one frame of the control stream and answers it.
func (s *session) next() error {
	h, err := wire.ReadHeader(s.control, wire.MaxControl)
	if errors.Is(err, io.EOF) {
		return errDone
	}
	var f wire.Frame
	if err == nil {
		w := s.watch()
		var body []byte
		if body, err = s.fill(s.control, h, w, nil, h.Len); err == nil {
			f, err = wire.Decode(h.Type, body)
		}
		w.end()
	}
	if err != nil {
		return fmt.Errorf("read control stream: %w", err)
	}
	if s.ctx.Err() != nil {
		return nil // the session ends: read on only to notice that the peer closes
	}
	s.heard.Store(time.Now().UnixNano())
	switch f := f.(type) {
	case *wire.Offer:
		return s.offer(f)
	case *wire.Resolve:
		return s.later(&s.resolves, func() error { return s.resolve(f) })
	case *wire.Retire:
		return s.later(&s.retires, func() error { return s.retire(f) })
	case *wire.Ping:
		s.depth.Store(f)
		return s.send(&wire.Pong{Time: time.Now().UnixMilli()})
	case *wire.Renew:
		return s.renew(f)
	case *wire.Status:
		if s.features&wire.FeatureStatus != 0 {
			s.status.Store(f)
			return nil
		}
	}
	return fmt.Errorf("frame type %#02x on the control stream: %w", f.Type(), wire.ErrMalformed)
}

// later answers a request beside the reading of the control stream.
func (s *session) later(e *errands, answer func() error) error {
	if inTurn(s.r.o.Mutations) {
		return answer()
	}
	return e.put(s, answer)
}

func (s *session) offer(f *wire.Offer) error {
	known, err := s.link.Offer(s.ctx, f.Buffers)
	if err != nil {
		return fmt.Errorf("look up marks: %w", err)
	}
	return s.sendMarks(known)
}

// sendMarks answers a Hello or an Offer, in as many frames as it takes.
func (s *session) sendMarks(o uplink.Offered) error {
	for {
		f := &wire.Marks{
			Buffers: o.Buffers[:min(len(o.Buffers), wire.MaxMarks)],
			Marks:   o.Marks[:min(len(o.Marks), wire.MaxMarks)],
			Rows:    o.Rows[:min(len(o.Rows), wire.MaxRows)],
		}
		o = uplink.Offered{Buffers: o.Buffers[len(f.Buffers):], Marks: o.Marks[len(f.Marks):], Rows: o.Rows[len(f.Rows):]}
		f.Final = len(o.Buffers) == 0 && len(o.Marks) == 0 && len(o.Rows) == 0
		if err := s.send(f); err != nil || f.Final {
			return err
		}
	}
}

// resolve answers every question. A topic that cannot be had now does not end the
// session; a node that is not the owner does.
func (s *session) resolve(f *wire.Resolve) error {
	t := &wire.Topic{Name: f.Name}
	id, partitions, err := s.lookUp(f.Name)
	if owner, ok := errors.AsType[*uplink.NotOwnerError](err); ok {
		return owner
	}
	switch {
	case err == nil && partitions > 0:
		t.ID, t.Partitions = id, partitions
	case err == nil:
		t.Reason, t.Text = wire.ReasonBusy, "topic has no partitions yet"
	default:
		t.Reason, t.Text = reasonOf(err), err.Error()
		s.refusal(Refusal{Name: f.Name, Reason: t.Reason, Text: t.Text})
	}
	return s.send(t)
}

// lookUp resolves a topic that a gateway may name. Of the cloud's own topics that is
// only the one for gaps.
func (s *session) lookUp(name string) (weir.TopicID, int32, error) {
	if name != weir.GapTopic && (strings.HasPrefix(name, "weir.") || strings.HasPrefix(name, "__")) {
		return weir.TopicID{}, 0, fmt.Errorf("topic %q belongs to the cloud: %w", name, uplink.ErrNotAllowed)
	}
	return s.r.o.Resolve(s.ctx, s.gateway, name)
}

func (s *session) retire(f *wire.Retire) error {
	if err := s.link.Retire(s.ctx, f.Buffer); err != nil {
		return fmt.Errorf("retire buffer %s: %w", f.Buffer, err)
	}
	return s.send(&wire.Retired{Buffer: f.Buffer})
}

// renew answers with a new certificate, or with the reason why there is none.
func (s *session) renew(f *wire.Renew) error {
	c := &wire.Certificate{}
	der, err := s.sign(f.CSR)
	if owner, ok := errors.AsType[*uplink.NotOwnerError](err); ok {
		return owner // the owner can sign it
	}
	switch {
	case err == nil:
		c.DER = der
		s.log.Info("gateway certificate renewed")
	case errors.Is(err, join.ErrRequest), errors.Is(err, join.ErrRevoked):
		c.Reason, c.Text = wire.ReasonNotAllowed, err.Error()
		s.log.Warn("gateway certificate not renewed", "err", err)
	default:
		c.Reason, c.Text = wire.ReasonBusy, err.Error()
		s.log.Warn("gateway certificate not renewed", "err", err)
	}
	return s.send(c)
}

func (s *session) sign(csr []byte) ([]byte, error) {
	if s.r.o.Renew == nil {
		return nil, errors.New("this node does not renew certificates")
	}
	if _, err := join.CheckCSR(csr, s.gateway); err != nil {
		return nil, err
	}
	return s.r.o.Renew(s.ctx, s.gateway, csr)
}
