package amqp091

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/storage/pause"
)

// mechanismAMQPlain is PLAIN with the user and the password in a table.
const mechanismAMQPlain = "AMQPLAIN"

var errSlowLogin = errors.New("client has not opened a vhost in time")

// checkMechanisms returns an error if the door cannot offer what a listener asks for.
func checkMechanisms(l *listener.Listener) error {
	for _, m := range l.SASL {
		if m != login.Plain && m != login.External {
			return fmt.Errorf("AMQP door cannot offer %s on listener %q", m, l.Name)
		}
	}
	if len(l.SASL) == 0 {
		return fmt.Errorf("AMQP door has no mechanism to offer on listener %q", l.Name)
	}
	return nil
}

// mechanisms returns what connection.start offers.
func (c *conn) mechanisms() []string {
	var all []string
	for _, m := range c.listener.SASL {
		if all = append(all, m); m == login.Plain {
			all = append(all, mechanismAMQPlain)
		}
	}
	return all
}

// greet performs the TLS handshake, if the listener uses TLS.
func (c *conn) greet() error {
	if c.tunnel != nil {
		return nil
	}
	err := c.session.Greet(c.ctx, c.nc, c.s.o.LoginTime)
	if errors.Is(err, login.ErrTLS) {
		return err
	}
	return gone(err)
}

// handshake opens the connection: protocol header, connection.start, tune and open
// [AMQP 0-9-1 §2.2.4]. A client that has not logged in gets frames of 4 KiB.
func (c *conn) handshake() error {
	if c.tunnel != nil {
		return c.enter()
	}
	p, err := wire.ReadPreface(c.nc)
	if err != nil {
		return gone(err)
	}
	if v := p.Protocol(); v != wire.AMQP091 && v != wire.AMQP09 {
		want := wire.PrefaceOf091()
		if _, err := c.nc.Write(want[:]); err != nil {
			return gone(err)
		}
		return fmt.Errorf("protocol header is %q", p[:])
	}
	c.seat.Heard()
	c.frames = wire.NewReader(c.nc)
	if err := c.start(); err != nil {
		return err
	}
	c.seat.Known()
	if err := c.tune(); err != nil {
		return err
	}
	return c.openVhost()
}

// receive reads the method that must come next on channel 0.
func receive[M wire.Method](c *conn, m M) error {
	for {
		f, err := c.frames.Next()
		if err != nil {
			return c.refuseFrame(err)
		}
		if f.Type == wire.FrameHeartbeat {
			continue
		}
		if f.Channel != 0 || f.Type != wire.FrameMethod {
			return fmt.Errorf("frame of type %d on channel %d in the place of %v", f.Type, f.Channel, m.ID())
		}
		id, args := wire.SplitMethod(f.Payload)
		if id == wire.IDConnectionClose {
			if err := c.send(0, &wire.ConnectionCloseOk{}); err != nil {
				return err
			}
			return errGone
		}
		if id != m.ID() {
			return fmt.Errorf("%v in the place of %v", id, m.ID())
		}
		return m.Decode(args)
	}
}

// start performs connection.start: who the client is.
func (c *conn) start() error {
	properties, err := c.properties()
	if err != nil {
		return err
	}
	if err := c.send(0, &wire.ConnectionStart{VersionMajor: 0, VersionMinor: 9, ServerProperties: properties,
		Mechanisms: []byte(strings.Join(c.mechanisms(), " ")), Locales: []byte("en_US")}); err != nil {
		return err
	}
	var ok wire.ConnectionStartOk
	if err := receive(c, &ok); err != nil {
		return c.distrust(err)
	}
	c.client = readClient(ok.ClientProperties)
	if !slices.Contains(c.mechanisms(), ok.Mechanism) {
		return c.distrust(fmt.Errorf("client wants to log in by %.40q", ok.Mechanism))
	}
	if err := c.logIn(ok.Mechanism, ok.Response); err != nil {
		return c.refuseLogin(ok.Mechanism, err)
	}
	return nil
}

// properties returns the server's properties, with the capabilities of RabbitMQ. Product and
// version are RabbitMQ's, too: clients conclude from them what basic.qos with global=true
// means (kombu), and that there is a broker at all (Spring Boot). The platform says what
// this is.
func (c *conn) properties() (wire.Table, error) {
	var can, all wire.Builder
	for _, name := range []string{"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to"} {
		can.Add(name, wire.Bool(true))
	}
	capabilities, err := can.Table()
	if err != nil {
		return wire.Table{}, err
	}
	all.Add("capabilities", wire.Nested(capabilities))
	all.Add("product", wire.Text("RabbitMQ"))
	all.Add("version", wire.Text(declaration.Dialect))
	all.Add("platform", wire.Text(strings.TrimSpace("Weir "+c.s.o.Version)))
	all.Add("information", wire.Text("Weir speaks the dialect of RabbitMQ "+declaration.Dialect))
	return all.Table()
}

// readClient reads the client's properties.
func readClient(t wire.Table) client {
	var of client
	if name, ok := t.Lookup("connection_name").Bytes(); ok {
		of.name = string(name[:min(len(name), wire.MaxShortString)])
	}
	can, _ := t.Lookup("capabilities").Table()
	has := func(name string) bool { set, _ := can.Lookup(name).Bool(); return set }
	of.cancelNotify, of.blocked, of.authFailure = has("consumer_cancel_notify"), has("connection.blocked"), has("authentication_failure_close")
	return of
}

var errLogin = errors.New("login failed")

// logIn finds out who the client is.
func (c *conn) logIn(mechanism string, response []byte) error {
	if mechanism == mechanismAMQPlain {
		var err error
		if response, err = plainOf(response); err != nil {
			return err
		}
		mechanism = login.Plain
	}
	return c.prove(mechanism, response)
}

// plainOf returns the response of PLAIN [RFC 4616] that says what one of AMQPLAIN does.
func plainOf(response []byte) ([]byte, error) {
	if len(response) >= 4 && int64(binary.BigEndian.Uint32(response)) == int64(len(response)-4) {
		response = response[4:] // some clients send the table with its length
	}
	t, failed := wire.ParseTable(response)
	if failed != nil {
		return nil, fmt.Errorf("%w: %w", errLogin, failed)
	}
	user, ok := t.Lookup("LOGIN").Bytes()
	password, too := t.Lookup("PASSWORD").Bytes()
	if !ok || !too {
		return nil, fmt.Errorf("%w: AMQPLAIN without LOGIN or PASSWORD", errLogin)
	}
	return slices.Concat([]byte{0}, user, []byte{0}, password), nil
}

// prove logs the client in, for the first time or again.
func (c *conn) prove(mechanism string, response []byte) error {
	l, err := c.session.Begin(c.s.logins, mechanism, c.from)
	if err != nil {
		return err
	}
	_, done, err := l.Step(c.ctx, response)
	if err != nil {
		return err
	}
	if done == nil {
		return fmt.Errorf("%w: %s needs another step", errLogin, mechanism)
	}
	if _, _, err := c.session.Welcome(l, done); err != nil {
		return err
	}
	c.user = l.User()
	return nil
}

// refuseLogin answers a login that failed, after a pause. Package login makes an address
// that keeps guessing wait longer before its next try.
func (c *conn) refuseLogin(mechanism string, reason error) error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if errors.Is(reason, login.ErrNoUsers) {
		return c.forced("this node does not know the users: another one does")
	}
	c.s.count.logins.Inc()
	refused, known := errors.AsType[*login.Refused](reason)
	if !known || refused.Log {
		c.warn("amqp login failed", "listener", c.listener.Name, "mechanism", mechanism, "err", reason)
	}
	if err := pause.For(c.ctx, c.s.o.LoginPause); err != nil {
		return err
	}
	if !c.client.authFailure {
		return errGone
	}
	return c.hangUp(&wire.Error{Code: wire.AccessRefused, Text: "Login was refused using authentication mechanism " + mechanism + ". For details see the broker logfile."})
}

// distrust closes the connection of a client that has not logged in, late and without a
// word, as RabbitMQ does.
func (c *conn) distrust(err error) error {
	if errors.Is(err, errGone) {
		return err
	}
	if waited := pause.For(c.ctx, c.s.o.LoginPause); waited != nil {
		return waited
	}
	return err
}

// hangUp closes the connection with a reason, and waits for the answer.
func (c *conn) hangUp(e *wire.Error) error {
	c.fail(e)
	for {
		f, err := c.frames.Next()
		if err != nil {
			return e
		}
		if f.Channel == 0 && f.Type == wire.FrameMethod {
			if id, _ := wire.SplitMethod(f.Payload); id == wire.IDConnectionCloseOk {
				return e
			}
		}
	}
}

// forced closes the connection: clients try the next address.
func (c *conn) forced(text string) error {
	return c.hangUp(&wire.Error{Code: wire.ConnectionForced, Text: text, Method: wire.IDConnectionOpen})
}

// tune agrees on the limits.
func (c *conn) tune() error {
	seconds := uint16(c.s.o.Heartbeat / time.Second)
	if err := c.send(0, &wire.ConnectionTune{ChannelMax: maxChannels, FrameMax: maxFrame, Heartbeat: seconds}); err != nil {
		return err
	}
	var ok wire.ConnectionTuneOk
	if err := receive(c, &ok); err != nil {
		return c.distrust(err)
	}
	switch {
	case ok.FrameMax == 0 || ok.FrameMax > maxFrame:
		return c.distrust(fmt.Errorf("negotiated frame_max = %d is higher than the maximum allowed value (%d)", ok.FrameMax, maxFrame))
	case ok.FrameMax < wire.MinFrameMax:
		return c.distrust(fmt.Errorf("negotiated frame_max = %d is lower than the minimum allowed value (%d)", ok.FrameMax, wire.MinFrameMax))
	case ok.ChannelMax == 0 || ok.ChannelMax > maxChannels:
		return c.distrust(fmt.Errorf("negotiated channel_max = %d is higher than the maximum allowed value (%d)", ok.ChannelMax, maxChannels))
	}
	c.maxOpen = int(ok.ChannelMax)
	c.heartbeat.Store(int64(time.Duration(ok.Heartbeat) * time.Second))
	c.frames.SetFrameMax(ok.FrameMax)
	c.mu.Lock()
	c.frameMax = ok.FrameMax
	c.out.SetFrameMax(ok.FrameMax)
	c.mu.Unlock()
	return nil
}

// openVhost performs connection.open.
func (c *conn) openVhost() error {
	var open wire.ConnectionOpen
	if err := receive(c, &open); err != nil {
		return c.distrust(err)
	}
	if _, err := c.s.o.Queues(open.VirtualHost); err != nil {
		return c.openTunnel(open.VirtualHost)
	}
	return c.enterVhost(open.VirtualHost)
}

// enterVhost performs connection.open for a vhost of this node.
func (c *conn) enterVhost(vhost string) error {
	e, err := c.s.o.Queues(vhost)
	if err != nil {
		return c.forced(fmt.Sprintf("vhost '%s' is not on this node", vhost))
	}
	c.s.o.Sure(c.ctx)
	known, err := e.OpenVhost(c.ctx, vhost)
	if err == nil && !known {
		err = c.s.o.Confirm(c.ctx, vhost)
	}
	switch {
	case c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case err != nil:
		return c.forced(fmt.Sprintf("vhost '%s' is not on this node", vhost))
	case !known:
		return c.hangUp(&wire.Error{Code: wire.NotAllowed, Text: fmt.Sprintf("vhost %s not found", vhost), Method: wire.IDConnectionOpen})
	}
	rights := c.s.o.Access.Vhost(c.session, vhost)
	if !rights.Open() {
		return c.hangUp(&wire.Error{Code: wire.NotAllowed, Text: fmt.Sprintf("access to vhost '%s' refused for user '%s'", vhost, c.user), Method: wire.IDConnectionOpen})
	}
	c.vhost, c.engine, c.rights, c.reading = vhost, e, rights, c.s.o.Access.Vhost(c.session, vhost)
	return c.send(0, &wire.ConnectionOpenOk{})
}
