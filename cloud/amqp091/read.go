package amqp091

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/login"
)

// read performs what the client sends until one of the two closes the connection. It
// returns errGone if the client has.
func (c *conn) read() error {
	for {
		if err := c.pace(); err != nil {
			return err
		}
		f, err := c.frames.Next()
		if err != nil {
			return c.refuseFrame(err)
		}
		c.listener.Traffic.Received.Add(uint64(len(f.Payload) + wire.FrameOverhead))
		err = c.frame(f)
		if e, ok := errors.AsType[*wire.Error](err); ok {
			c.leave()
			return c.hangUp(e)
		}
		if err != nil {
			return err
		}
	}
}

// pace does what is due before read may have to wait for the next frame: it submits what
// was published, and waits while the client does not read its answers.
func (c *conn) pace() error {
	if c.frames.Buffered() && c.burst.small() {
		return nil
	}
	c.flush()
	if err := c.await(func() bool { return c.out.Len() <= maxUnwritten || c.closing }); err != nil {
		return err
	}
	h := time.Duration(c.heartbeat.Load())
	if h == 0 || c.isClosing() {
		return nil
	}
	return gone(c.nc.SetReadDeadline(time.Now().Add(2*h + heartbeatGrace)))
}

const (
	maxUnwritten   = 1 << 20 // bytes of answers that wait: then nothing is read
	heartbeatGrace = time.Second
)

// lostTime is how long a client whose frames are lost has to read why.
const lostTime = time.Second

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// refuseFrame answers what is no frame, or returns why no frame came.
func (c *conn) refuseFrame(err error) error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		if c.engine != nil {
			c.leave()
		}
		c.fail(e)
		_ = c.nc.SetReadDeadline(time.Now().Add(lostTime))
		_, _ = io.Copy(io.Discard, c.nc) // where the next frame begins is not known
		return e
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.isClosing() || c.parted.Load() {
			return errGone
		}
		return fmt.Errorf("client missed its heartbeats: %w", err)
	}
	return gone(err)
}

// frame performs one frame. Its error is an *wire.Error if the connection must be closed
// with a reason.
func (c *conn) frame(f wire.Frame) error {
	if c.isClosing() {
		return c.farewell(f)
	}
	switch {
	case f.Type == wire.FrameHeartbeat:
		return nil
	case f.Channel == 0:
		return c.control(f)
	case c.session.Expired():
		return &wire.Error{Code: wire.ConnectionForced, Text: "the login has expired"}
	}
	ch := c.channels[f.Channel]
	if ch == nil {
		return c.openChannel(f)
	}
	return ch.frame(f)
}

// farewell waits for the answer to connection.close.
func (c *conn) farewell(f wire.Frame) error {
	if f.Channel != 0 || f.Type != wire.FrameMethod {
		return nil
	}
	switch id, _ := wire.SplitMethod(f.Payload); id {
	case wire.IDConnectionCloseOk:
		return errGone
	case wire.IDConnectionClose: // both have closed at once
		if err := c.send(0, &wire.ConnectionCloseOk{}); err != nil {
			return err
		}
		return errGone
	}
	return nil
}

// control performs a method of channel 0.
func (c *conn) control(f wire.Frame) error {
	in := wire.Assembler{From: wire.Client}
	if complete, err := in.Add(f); err != nil {
		return err
	} else if !complete {
		return unexpectedMethod(in.Method().ID())
	}
	switch m := in.Method().(type) {
	case *wire.ConnectionClose:
		return c.closeByClient()
	case *wire.ConnectionUpdateSecret:
		return c.updateSecret(m)
	case *wire.ConnectionBlocked, *wire.ConnectionUnblocked:
		return nil // a client that says that it does not read
	}
	return unexpectedMethod(in.Method().ID())
}

func unexpectedMethod(id wire.MethodID) error {
	return &wire.Error{Code: wire.ChannelError, Text: "unexpected method in connection state running", Method: id}
}

// closeByClient performs connection.close. Its answer comes when all that the client sent
// before has an outcome, and its messages are back in their queues.
func (c *conn) closeByClient() error {
	c.leave()
	if err := c.await(func() bool { return c.works == 0 }); err != nil {
		return err
	}
	if err := c.send(0, &wire.ConnectionCloseOk{}); err != nil {
		return err
	}
	return errGone
}

// updateSecret performs connection.update-secret: the user logs in again.
func (c *conn) updateSecret(m *wire.ConnectionUpdateSecret) error {
	user, mechanism := c.user, login.Plain
	if !slices.Contains(c.listener.SASL, mechanism) {
		return c.send(0, &wire.ConnectionUpdateSecretOk{}) // a certificate has no secret
	}
	err := c.prove(mechanism, slices.Concat([]byte{0}, []byte(user), []byte{0}, m.NewSecret))
	if errors.Is(err, login.ErrNoUsers) {
		return refused(wire.ConnectionForced, "this node does not know the users: another one does")
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		c.s.count.logins.Inc()
		c.warn("amqp login failed", "listener", c.listener.Name, "mechanism", mechanism, "user", user, "err", err)
		return &wire.Error{Code: wire.NotAllowed, Text: "New secret was refused by one of the backends", Method: m.ID()}
	}
	return c.send(0, &wire.ConnectionUpdateSecretOk{})
}
