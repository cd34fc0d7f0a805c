package amqp

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	frameMethod    = 1
	frameHeader    = 2
	frameBody      = 3
	frameHeartbeat = 8
	frameEnd       = 0xce
)

// event is what arrives on a channel: a method with its content, or the end of the stream.
type event struct {
	channel uint16
	method  *method // nil at the end and for what is no frame
	given   map[string]any
	props   map[string]any
	body    []byte
	frames  int    // of the body
	note    string // when there is no method
}

// conn is one connection. A goroutine reads it; the player does the rest.
type conn struct {
	net      net.Conn
	names    *catalogue
	frameMax uint32 // 0 until it is agreed on
	events   chan event
	pending  map[uint16][]event
	channels map[uint16]*channel
	ended    bool // the events have ended
	over     bool // the server has closed it; a later method opens it anew
}

// channel is what the player knows of an open channel.
type channel struct {
	confirms  bool
	published uint64
	open      []uint64 // publishes that are not confirmed, in order
}

func (c *catalogue) dial(ctx context.Context, address string) (*conn, error) {
	n, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := &conn{net: n, names: c, events: make(chan event, 4096), pending: make(map[uint16][]event), channels: make(map[uint16]*channel)}
	go conn.read()
	return conn, nil
}

// close closes the connection and waits for the end of its reader.
func (c *conn) close() {
	c.net.Close()
	for range c.events {
	}
}

// read reads until the connection ends, which it says with a last event.
func (c *conn) read() {
	defer close(c.events)
	r := bufio.NewReader(c.net)
	partial := make(map[uint16]*event)
	left := make(map[uint16]uint64) // bytes of the body that are to come
	for {
		var head [7]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if string(head[:4]) == "AMQP" {
			last, err := r.ReadByte()
			if err == nil {
				c.events <- event{note: "protocol-header " + hex.EncodeToString(append(head[4:], last))}
			}
			continue
		}
		id, size := binary.BigEndian.Uint16(head[1:]), binary.BigEndian.Uint32(head[3:])
		payload := make([]byte, size+1)
		if _, err := io.ReadFull(r, payload); err != nil {
			return
		}
		if payload[size] != frameEnd {
			c.events <- event{channel: id, note: fmt.Sprintf("frame that ends with %#x", payload[size])}
			return
		}
		payload = payload[:size]
		e := partial[id]
		switch head[0] {
		case frameHeartbeat:
			continue
		case frameMethod:
			e = c.method(id, payload)
			if e.method != nil && e.method.content {
				partial[id] = e
				continue
			}
		case frameHeader:
			if e == nil || !c.header(e, payload, left) {
				e = &event{channel: id, note: "content header that is wrong: " + hex.EncodeToString(payload)}
			}
		case frameBody:
			if e == nil || uint64(len(payload)) > left[id] {
				e = &event{channel: id, note: "body that is wrong"}
				break
			}
			e.body, e.frames = append(e.body, payload...), e.frames+1
			left[id] -= uint64(len(payload))
		default:
			e = &event{channel: id, note: fmt.Sprintf("frame of type %d", head[0])}
		}
		if e.note != "" || left[id] == 0 {
			delete(partial, id)
			c.events <- *e
		}
	}
}

func (c *conn) method(id uint16, payload []byte) *event {
	d := &decoder{b: payload}
	class, number := uint16(d.number(2)), uint16(d.number(2))
	m := c.names.byID[[2]uint16{class, number}]
	if m == nil {
		return &event{channel: id, note: fmt.Sprintf("unknown method %d.%d", class, number)}
	}
	e := &event{channel: id, method: m, given: d.arguments(m.arguments)}
	if d.err != nil || len(d.b) > 0 {
		return &event{channel: id, note: fmt.Sprintf("%s that does not decode: %v, %d bytes left", m.name, d.err, len(d.b))}
	}
	return e
}

// header reads the properties, and reports whether they could be read.
func (c *conn) header(e *event, payload []byte, left map[uint16]uint64) bool {
	d := &decoder{b: payload}
	class, weight, size, flags := d.number(2), d.number(2), d.number(8), d.number(2)
	var present []argument
	for i, p := range c.names.properties {
		if flags>>(15-i)&1 == 1 {
			present = append(present, p)
		}
	}
	e.props = d.arguments(present)
	left[e.channel] = size
	return d.err == nil && len(d.b) == 0 && class == 60 && weight == 0 && flags&3 == 0
}

func (c *conn) frame(kind byte, channel uint16, payload []byte) error {
	b := append(appendNumber(nil, uint64(kind), 1), byte(channel>>8), byte(channel))
	b = append(appendLong(b, string(payload)), frameEnd)
	return c.write(b)
}

func (c *conn) write(b []byte) error {
	if err := c.net.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := c.net.Write(b)
	return err
}

// send sends a method, and its content when it has one.
func (c *conn) send(id uint16, m *method, given, props map[string]any, body string) error {
	payload := []byte{byte(m.class >> 8), byte(m.class), byte(m.id >> 8), byte(m.id)}
	payload, err := appendArguments(payload, m.arguments, given)
	if err != nil {
		return err
	}
	if err := c.frame(frameMethod, id, payload); err != nil || !m.content {
		return err
	}
	var flags uint16
	var present []argument
	for i, p := range c.names.properties {
		if _, ok := props[p.name]; ok {
			flags |= 1 << (15 - i)
			present = append(present, p)
		}
	}
	header := appendNumber(appendNumber([]byte{0, 60, 0, 0}, uint64(len(body)), 8), uint64(flags), 2)
	if header, err = appendArguments(header, present, props); err != nil {
		return err
	}
	if err := c.frame(frameHeader, id, header); err != nil {
		return err
	}
	most := 1 << 20
	if c.frameMax > 8 {
		most = int(c.frameMax) - 8
	}
	for len(body) > 0 {
		n := min(len(body), most)
		if err := c.frame(frameBody, id, []byte(body[:n])); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}
