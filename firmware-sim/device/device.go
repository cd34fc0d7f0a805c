// Package device simulates sensors. Each device has its own id, seed, sensor and MQTT connection,
// and numbers its readings. When the connection breaks it behaves like real firmware: it backs
// off, connects again, and sends unacknowledged readings again, with DUP and in order.
package device

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

const (
	keepAlive      = 30 * time.Second
	connectTimeout = 5 * time.Second
	firstBackOff   = 50 * time.Millisecond
	lastBackOff    = 2 * time.Second
)

// Reading is the state of one numbered reading.
type Reading struct {
	Device string
	N      int  // 1, 2, 3 … per device
	QoS    byte // 0, 1 or 2
	Sends  int  // how often it was sent: more than once after a broken connection
	Acked  bool // PUBACK or PUBREC was received: the broker is responsible for it now
}

// Config describes one device.
type Config struct {
	ID       string
	Index    int    // selects the sensor
	Seed     uint64 // of everything random in this device
	Broker   string // host:port
	TLS      *tls.Config
	User     string
	Password string
	Topic    string
	QoS      byte
	Version  byte // 3, 4 or 5
	Interval time.Duration
	Count    int // readings to send; 0: until the context ends
	InFlight int // readings that may wait for their ack; no more are sent meanwhile

	// Event is called, from the device's goroutine, when a reading is first sent (Sends 1,
	// Acked false), and when it is finished: acked, refused or given up.
	Event func(Reading, Outcome)

	// Fault, if set, is called when the connection fails.
	Fault func(error)
}

// Outcome says why Event was called.
type Outcome int

const (
	Sent       Outcome = iota // it was sent for the first time
	Acked                     // the broker has acknowledged it
	Refused                   // the broker has refused it
	Unfinished                // the device stopped before an answer came
)

// device is one running device. It belongs to the goroutine of run.
type device struct {
	c      Config
	rng    *rand.Rand
	sensor sensor
	next   int       // number of the next reading
	window []*flight // readings that wait for their last answer, oldest first
	lastID uint16
	out    []byte
}

// flight is a reading that was sent and is not finished.
type flight struct {
	Reading
	id       uint16
	payload  []byte
	released bool // QoS 2: PUBREC was received, PUBREL was sent
}

// Run runs one device. It returns when Count readings are finished, or when ctx ends.
func Run(ctx context.Context, c Config) {
	rng := rand.New(rand.NewPCG(c.Seed, uint64(c.Index)))
	d := &device{c: c, rng: rng, sensor: newSensor(c.Index, rng), next: 1}
	backOff := firstBackOff
	for ctx.Err() == nil && !d.done() {
		began := time.Now()
		err := d.session(ctx)
		if ctx.Err() != nil || d.done() {
			break
		}
		if err != nil && c.Fault != nil {
			c.Fault(err)
		}
		if time.Since(began) > lastBackOff {
			backOff = firstBackOff
		}
		_ = pause.For(ctx, backOff/2+rand.N(backOff))
		backOff = min(2*backOff, lastBackOff)
	}
	for _, f := range d.window {
		if !f.Acked { // otherwise only the last step of QoS 2 is missing
			d.c.Event(f.Reading, Unfinished)
		}
	}
}

func (d *device) done() bool { return d.c.Count > 0 && d.next > d.c.Count && len(d.window) == 0 }

// session is one connection, from dialling to its end.
func (d *device) session(ctx context.Context) error {
	conn, present, err := d.connect(ctx)
	if err != nil {
		return err
	}
	answers := make(chan packet, 256)
	failed := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := receive(conn, answers, ctx.Done())
		if err != nil {
			conn.Close() // also ends a write to a broker that does not read
		}
		failed <- err
	}()
	// When the device stops, do not wait for a broker that does not read.
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now().Add(time.Second)) })()
	defer func() {
		conn.Close()
		for {
			select {
			case <-answers: // so that receive does not block
			case <-ended:
				return
			}
		}
	}()
	if err := d.resume(conn, present); err != nil {
		return err
	}
	return d.loop(ctx, conn, answers, failed)
}

func (d *device) connect(ctx context.Context) (net.Conn, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", d.c.Broker)
	if err != nil {
		return nil, false, err
	}
	if d.c.TLS != nil {
		conn = tls.Client(conn, d.c.TLS)
	}
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	hello := appendConnect(nil, d.c.Version, d.c.ID, d.c.User, d.c.Password, uint16(keepAlive/time.Second))
	if _, err := conn.Write(hello); err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	// One byte at a time: bytes behind the CONNACK must not be consumed.
	answer, err := readPacket(bufio.NewReaderSize(oneByte{conn}, 16))
	switch {
	case err != nil:
	case answer.kind != typeConnack:
		err = fmt.Errorf("%w: type %d instead of CONNACK", errMalformed, answer.kind)
	case answer.reason != 0:
		err = fmt.Errorf("connection refused with code 0x%02x", answer.reason)
	default:
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, false, errors.Join(err, conn.Close())
	}
	return conn, answer.sessionPresent, nil
}

// oneByte makes a buffered reader read one byte at a time.
type oneByte struct{ net.Conn }

func (o oneByte) Read(p []byte) (int, error) { return o.Conn.Read(p[:min(len(p), 1)]) }

// receive passes on the broker's answers until the connection ends.
func receive(conn net.Conn, answers chan<- packet, stop <-chan struct{}) error {
	r := bufio.NewReader(conn)
	for {
		// An ack that takes longer than this is not expected any more.
		if err := conn.SetReadDeadline(time.Now().Add(keepAlive)); err != nil {
			return err
		}
		p, err := readPacket(r)
		if err != nil {
			return err
		}
		select {
		case answers <- p:
		case <-stop:
			return nil
		}
	}
}

// resume sends unanswered readings again, in order [MQTT-4.4.0-1]. A broker that has lost the
// session has lost the packet ids as well: what it had received at QoS 2 is finished, the rest is
// sent as if for the first time.
func (d *device) resume(conn net.Conn, present bool) error {
	d.out = d.out[:0]
	kept := d.window[:0]
	for _, f := range d.window {
		switch {
		case f.released && present:
			d.out = appendPubrel(d.out, f.id)
		case f.released:
			continue
		default:
			f.Sends++
			d.out = appendPublish(d.out, d.c.Version, d.c.Topic, f.payload, f.QoS, f.id, present || f.QoS == 1)
		}
		kept = append(kept, f)
	}
	d.window = kept
	_, err := conn.Write(d.out)
	return err
}

func (d *device) loop(ctx context.Context, conn net.Conn, answers <-chan packet, failed <-chan error) error {
	tick := time.NewTimer(d.wait())
	defer tick.Stop()
	ping := time.NewTicker(keepAlive / 2)
	defer ping.Stop()
	for !d.done() {
		var due <-chan time.Time
		if d.mayMeasure() {
			due = tick.C
		}
		d.out = d.out[:0]
		select {
		case <-ctx.Done():
			_, err := conn.Write(appendDisconnect(nil))
			return err
		case err := <-failed:
			return err
		case <-due:
			d.measure()
			tick.Reset(d.c.Interval)
		case <-ping.C:
			d.out = appendPingreq(d.out)
		case p := <-answers:
			if err := d.answers(p, answers); err != nil {
				return err
			}
		}
		if len(d.out) > 0 {
			if _, err := conn.Write(d.out); err != nil {
				return err
			}
		}
	}
	_, err := conn.Write(appendDisconnect(nil))
	return err
}

// answers handles p and all other packets that have arrived. A device without an interval sends
// the next readings in the same write.
func (d *device) answers(p packet, more <-chan packet) error {
	for {
		if err := d.answer(p); err != nil {
			return err
		}
		if len(more) == 0 {
			break
		}
		p = <-more
	}
	if d.c.Interval == 0 && d.mayMeasure() {
		d.measure()
	}
	return nil
}

// mayMeasure reports whether the device may take a reading: the window has room and the count is
// not reached.
func (d *device) mayMeasure() bool {
	return len(d.window) < d.c.InFlight && (d.c.Count == 0 || d.next <= d.c.Count)
}

// wait spreads the devices of a fleet over the interval.
func (d *device) wait() time.Duration {
	if d.c.Interval <= 0 {
		return 0
	}
	return rand.N(d.c.Interval)
}

// measure takes readings and queues their PUBLISH: one, or without an interval as many as fit into
// the window.
func (d *device) measure() {
	for {
		f := &flight{Reading: Reading{Device: d.c.ID, N: d.next, QoS: d.c.QoS, Sends: 1}}
		f.payload = d.payload(f.N)
		d.next++
		if f.QoS > 0 {
			f.id = d.freeID()
			d.window = append(d.window, f)
		}
		d.out = appendPublish(d.out, d.c.Version, d.c.Topic, f.payload, f.QoS, f.id, false)
		d.c.Event(f.Reading, Sent)
		if d.c.Interval > 0 || len(d.out) > 32<<10 || len(d.window) >= d.c.InFlight || d.next == d.c.Count+1 {
			return
		}
	}
}

// payload returns a reading as JSON: device, number, time (µs) and value.
func (d *device) payload(n int) []byte {
	return fmt.Appendf(nil, `{"device":%q,"n":%d,"t":%d,%s}`, d.c.ID, n, time.Now().UnixMicro(), d.sensor(n, d.rng))
}

// freeID returns a packet id that is not in use [MQTT-2.2.1-3].
func (d *device) freeID() uint16 {
	for {
		d.lastID++
		if d.lastID == 0 {
			continue
		}
		if d.find(d.lastID) < 0 {
			return d.lastID
		}
	}
}

func (d *device) find(id uint16) int {
	for i, f := range d.window {
		if f.id == id {
			return i
		}
	}
	return -1
}

// answer handles one answer of the broker.
func (d *device) answer(p packet) error {
	switch p.kind {
	case typePingresp:
		return nil
	case typeDisconnect:
		return fmt.Errorf("disconnected by the broker with code 0x%02x", p.reason)
	case typePuback, typePubrec, typePubcomp:
	default:
		return fmt.Errorf("%w: unexpected type %d", errMalformed, p.kind)
	}
	i := d.find(p.id)
	if i < 0 {
		if p.kind == typePubrec { // an old exchange that the device has forgotten
			d.out = appendPubrel(d.out, p.id)
		}
		return nil
	}
	f := d.window[i]
	refused := p.reason >= 0x80 && p.kind != typePubcomp
	if !refused && !f.Reading.Acked && p.kind != typePubcomp {
		f.Reading.Acked = true
		d.c.Event(f.Reading, Acked)
	}
	switch {
	case refused:
		d.c.Event(f.Reading, Refused)
	case p.kind == typePubrec:
		f.released = true
		d.out = appendPubrel(d.out, f.id)
		return nil
	}
	d.window = append(d.window[:i], d.window[i+1:]...)
	return nil
}
