package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"io"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// login is what a CONNECT asks of the session layer, and the answer.
type login struct {
	clean  bool
	expiry uint32 // seconds; 0: the session ends with the connection
	will   *will

	account *account // of the client's page, set by the committer

	after  uint64        // items of the queue that come before it; set by the queue
	done   chan struct{} // closed by the dispatcher
	joined bool          // the connection has joined a session, which it must leave
}

// connect reads the CONNECT packet, checks it, asks the authenticator and joins the
// session. joined reports whether the session layer knows the connection. After an error
// the connection is over; the client has got an answer if the protocol has one.
func (c *conn) connect() (joined bool, err error) {
	certificates, err := c.certificates()
	if err != nil {
		if !c.stopped.Load() {
			c.tell("TLS or WebSocket handshake failed", "err", err)
		}
		return false, errRefused
	}
	c.budget = c.s.connecting.Peer("") // a peer of its own
	h, body, claim, err := c.packet(c.s.o.MaxConnectSize)
	defer release(claim)
	if err != nil {
		return false, c.noConnect(err)
	}
	c.seat.Heard()
	if h.Type != packets.Connect {
		return false, c.noConnect(packets.ErrProtocolViolationRequireFirstConnect) // [MQTT-3.1.0-1]
	}
	if err := c.checkVersion(body); err != nil {
		return false, c.decline(err)
	}
	props, willProps, err := checkConnect(body)
	if err != nil {
		return false, c.decline(err)
	}
	pk := packets.Packet{FixedHeader: h}
	if err := pk.ConnectDecode(body); err != nil {
		return false, c.decline(protocolError(err))
	}
	l, err := c.accept(&pk, props, willProps)
	if err != nil {
		return false, c.decline(err)
	}
	logins := c.s.logins.Load()
	if err := c.authenticate(&pk.Connect, certificates); err != nil {
		c.s.count.unauthenticated.Inc()
		if !c.stopped.Load() {
			c.tell("login refused", "user", c.username, "err", err)
		}
		c.refuse(connectReason(err))
		return false, errRefused
	}
	c.succeed()
	if !c.s.queue.put(&work{kind: workConnect, conn: c, client: c.clientID, req: &request{login: l}}) {
		return false, ErrClosed
	}
	<-l.done
	c.account = l.account
	if l.joined {
		c.seat.Known()
	}
	if c.s.logins.Load() != logins && c.authenticate(&pk.Connect, certificates) != nil {
		c.stop(packets.ErrAdministrativeAction) // see Expel
	}
	if c.stopped.Load() {
		return l.joined, errStopped
	}
	return l.joined, nil
}

// authenticate asks the authenticator, if there is one. A connection that waits for it
// does not count as silent, but may still be closed for a newer one.
func (c *conn) authenticate(p *packets.ConnectParams, certificates []*x509.Certificate) error {
	ask := c.s.o.Authenticate
	if ask == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.login, c.s.o.LoginTimeout)
	defer cancel()
	return ask(ctx, Connect{
		ClientID: p.ClientIdentifier, Username: c.username, HasUsername: p.UsernameFlag,
		Password: p.Password, Version: c.version, Peer: c.peer, Certificates: certificates,
	})
}

// noConnect logs a connection that ended before its CONNECT. There is nothing to answer.
func (c *conn) noConnect(err error) error {
	if !c.stopped.Load() && err != io.EOF {
		c.tell("connection closed: no CONNECT arrived", "err", err)
	}
	return errRefused
}

// decline answers a wrong CONNECT: with one log line, and a CONNACK if the protocol has
// one.
func (c *conn) decline(err error) error {
	code := protocolError(err)
	c.s.count.malformed.Inc()
	c.tell("CONNECT refused", "reason", code.Reason, "code", code.Code)
	c.refuse(code)
	return errRefused
}

// refuse sends a CONNACK with an error and closes the connection. MQTT 3.x has codes for
// a few errors only; for the others the connection is just closed.
func (c *conn) refuse(reason packets.Code) {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connack},
		ProtocolVersion: c.version,
		ReasonCode:      reason.Code,
	}
	if c.version == 5 {
		c.writeWithReason(&pk, reason)
	} else if code, ok := connackCode(reason); ok {
		pk.ReasonCode = code
		c.out.write(&pk, 0)
	}
	c.stopped.Store(true)
	c.close()
}

// bridgeBit in the version of 3.1 or 3.1.1 says that the client is another broker. No
// specification has it, but mosquitto's bridges set it.
const bridgeBit = 0x80

// bridgeWindow is how many messages are sent to a bridge before it acknowledges the
// first. mosquitto accepts max_inflight_messages, 20 by default. It drops QoS 2 messages
// above that, and acknowledges them all the same. 3.x clients cannot announce a limit.
const bridgeWindow = 20

// checkVersion finds the protocol version before anything depends on it. An unknown
// version is answered in the nearer dialect: 0x84 for a version above 5, else code 1
// [MQTT-3.1.2-2]. The bridge bit is removed.
func (c *conn) checkVersion(body []byte) error {
	n, ok := field(body)
	if !ok || n >= len(body) {
		return packets.ErrMalformedProtocolName
	}
	if v := body[n]; v == bridgeBit|3 || v == bridgeBit|4 {
		c.bridge, body[n] = true, v&^bridgeBit
	}
	name, version := string(body[2:n]), body[n]
	c.version = version
	switch {
	case name == "MQIsdp" && version == 3, name == "MQTT" && (version == 4 || version == 5):
		return nil
	case name != "MQIsdp" && name != "MQTT":
		c.version = 4
		return packets.ErrProtocolViolationProtocolName // [MQTT-3.1.2-1]: no CONNACK
	case version > 5 && version < 0x80:
		c.version = 5
	default:
		c.version = 4
	}
	return packets.ErrUnsupportedProtocolVersion
}

// accept checks what the codec does not check, and fills the connection's fields.
func (c *conn) accept(pk *packets.Packet, props, willProps propertySet) (*login, error) {
	p := &pk.Connect
	if p.PasswordFlag && !p.UsernameFlag && c.version != 5 {
		return nil, packets.ErrProtocolViolationPasswordNoFlag // [MQTT-3.1.2-22]
	}
	if p.UsernameFlag && !validString(p.Username) {
		return nil, packets.ErrMalformedUsername // [MQTT-3.1.3-11]
	}
	if props.has(packets.PropAuthenticationMethod) {
		return nil, packets.ErrBadAuthenticationMethod // [MQTT-4.12.0-1]
	}
	if props.has(packets.PropAuthenticationData) {
		return nil, packets.ErrProtocolViolation // §3.1.2.11.10
	}
	c.clientID, c.username = p.ClientIdentifier, string(p.Username)
	l := &login{clean: p.Clean, done: make(chan struct{})}
	if err := c.nameClient(p.Clean); err != nil {
		return nil, err
	}
	var err error
	if l.will, err = c.makeWill(p, willProps); err != nil {
		return nil, err
	}
	c.receiveMaximum, c.problemInfo = 65535, true
	if c.bridge {
		c.receiveMaximum = bridgeWindow
	}
	keepAlive := p.Keepalive
	if c.version == 5 {
		if props.has(packets.PropReceiveMaximum) {
			c.receiveMaximum = pk.Properties.ReceiveMaximum
		}
		if props.has(packets.PropRequestProblemInfo) {
			c.problemInfo = pk.Properties.RequestProblemInfo == 1
		}
		c.maxPacket = pk.Properties.MaximumPacketSize
		c.outAliases.limit = pk.Properties.TopicAliasMaximum
		l.expiry = pk.Properties.SessionExpiryInterval
		if longest := c.s.o.ServerKeepAlive; longest > 0 && (keepAlive == 0 || keepAlive > longest) {
			keepAlive = longest // [MQTT-3.1.2-21]
		}
	} else if !p.Clean {
		l.expiry = never
	}
	c.expiry = l.expiry
	c.keepAlive = time.Duration(keepAlive) * time.Second
	return l, nil
}

// nameClient checks the client id, or assigns one [MQTT-3.1.3-6] to
// [MQTT-3.1.3-8].
func (c *conn) nameClient(clean bool) error {
	if c.clientID != "" {
		return nil
	}
	if c.version == 3 || c.version == 4 && !clean {
		return packets.ErrClientIdentifierNotValid
	}
	c.clientID, c.assigned = "weir-"+rand.Text(), true
	return nil
}

// makeWill checks and returns the will (§3.1.2.5 to §3.1.2.7, §3.1.3.2, §3.1.3.3).
func (c *conn) makeWill(p *packets.ConnectParams, props propertySet) (*will, error) {
	if !p.WillFlag {
		if p.WillQos != 0 || p.WillRetain {
			return nil, packets.ErrMalformedFlags // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
		}
		return nil, nil
	}
	if p.WillQos > 2 {
		return nil, packets.ErrMalformedFlags // [MQTT-3.1.2-12]
	}
	fault := c.nameFault(p.WillTopic)
	if fault != "" && (c.version == 5 || p.WillTopic == "") {
		return nil, packets.ErrTopicNameInvalid
	}
	properties, err := messageProperties(&p.WillProperties, props)
	if err != nil {
		return nil, err
	}
	w := &will{
		message: Message{
			ClientID: c.clientID, Username: c.username, Topic: p.WillTopic, Payload: p.WillPayload,
			QoS: p.WillQos, Retain: p.WillRetain, Version: c.version, Will: true, Properties: properties,
		},
		delay: time.Duration(p.WillProperties.WillDelayInterval) * time.Second,
	}
	if fault != "" { // 3.x has no answer for that: the will becomes a refused letter when it is due
		w.message.Refused = &Refusal{Reason: fault, Size: int64(len(p.WillPayload))}
	}
	return w, nil
}

// welcome sends the CONNACK of an accepted connection.
func (c *conn) welcome(l *login, present bool) {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connack},
		ProtocolVersion: c.version,
		SessionPresent:  present && c.version != 3, // reserved in 3.1 §3.2
	}
	if c.version == 5 {
		p := &pk.Properties
		p.ReceiveMaximum = c.s.o.ReceiveMaximum
		p.TopicAliasMaximum = c.s.o.TopicAliasMaximum
		p.MaximumPacketSize = uint32(c.s.o.MaxPacketSize)
		if c.assigned {
			p.AssignedClientID = c.clientID // [MQTT-3.1.3-7]
		}
		if l.expiry != c.expiry {
			p.SessionExpiryInterval, p.SessionExpiryIntervalFlag = l.expiry, true
		}
		if longest := c.s.o.ServerKeepAlive; longest > 0 && c.keepAlive == time.Duration(longest)*time.Second {
			p.ServerKeepAlive, p.ServerKeepAliveFlag = longest, true
		}
	}
	c.out.write(&pk, c.maxPacket)
	c.greeted.Store(true)
}
