package hostile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// device is an MQTT 3.1.1 client that is as rude as a test needs it.
type device struct {
	nc net.Conn
	r  *bufio.Reader
}

// login is what a device says in CONNECT.
type login struct {
	id, user, password string
	kept               bool // the session outlives the connection
}

// deviceTimeout is how long a device waits for an answer.
const deviceTimeout = 60 * time.Second

// dialDevice opens a connection from one of the host's own addresses, such as
// 127.0.0.2, and says nothing yet.
func dialDevice(addr, from string) (*device, error) {
	d := net.Dialer{Timeout: deviceTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &device{nc: nc, r: bufio.NewReader(nc)}, nil
}

// connectDevice is dialDevice, and a CONNECT that is accepted.
func connectDevice(addr, from string, l login) (*device, error) {
	d, err := dialDevice(addr, from)
	if err != nil {
		return nil, err
	}
	if err := d.connect(l); err != nil {
		d.nc.Close()
		return nil, err
	}
	return d, nil
}

// packet is an MQTT packet: its first byte, its length, its parts.
func packet(first byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := header(first, n)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// header is the fixed header of a packet that announces n bytes.
func header(first byte, n int) []byte {
	b := []byte{first}
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func number(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// connectPacket is a CONNECT with a keep alive of ten minutes.
func connectPacket(l login) []byte {
	flags, parts := byte(0), [][]byte{text(l.id)}
	if !l.kept {
		flags |= 0x02
	}
	if l.user != "" {
		flags |= 0xc0
		parts = append(parts, text(l.user), text(l.password))
	}
	head := append(text("MQTT"), 4, flags)
	return packet(0x10, append([][]byte{head, number(600)}, parts...)...)
}

// errRefused: CONNACK had a code other than 0.
var errRefused = errors.New("connection refused by CONNACK")

func (d *device) connect(l login) error {
	if _, err := d.nc.Write(connectPacket(l)); err != nil {
		return err
	}
	body, err := d.expect(0x20)
	if err == nil && (len(body) != 2 || body[1] != 0) {
		err = fmt.Errorf("%w: %x", errRefused, body)
	}
	return err
}

// next reads one packet.
func (d *device) next() (first byte, body []byte, err error) {
	if err := d.nc.SetReadDeadline(time.Now().Add(deviceTimeout)); err != nil {
		return 0, nil, err
	}
	if first, err = d.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n := 0
	for shift := 0; ; shift += 7 {
		b, err := d.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	body = make([]byte, n)
	_, err = io.ReadFull(d.r, body)
	return first, body, err
}

// expect reads one packet of the type.
func (d *device) expect(kind byte) ([]byte, error) {
	first, body, err := d.next()
	if err == nil && first&0xf0 != kind {
		err = fmt.Errorf("packet %#x in the place of %#x", first, kind)
	}
	return body, err
}

// publish sends a message with QoS 1 and waits for its PUBACK.
func (d *device) publish(topic, payload string, id uint16) error {
	if _, err := d.nc.Write(packet(0x32, text(topic), number(id), []byte(payload))); err != nil {
		return err
	}
	body, err := d.expect(0x40)
	if err == nil && (len(body) != 2 || binary.BigEndian.Uint16(body) != id) {
		err = fmt.Errorf("PUBACK %x for %d", body, id)
	}
	return err
}

// subscribe asks for filters with QoS 1 and returns the codes of the answers.
func (d *device) subscribe(filters ...string) ([]byte, error) {
	parts := [][]byte{number(1)}
	for _, f := range filters {
		parts = append(parts, text(f), []byte{1})
	}
	if _, err := d.nc.Write(packet(0x82, parts...)); err != nil {
		return nil, err
	}
	body, err := d.expect(0x90)
	if err != nil || len(body) < 2 {
		return nil, errors.Join(err, errors.New("no SUBACK"))
	}
	return body[2:], nil
}
