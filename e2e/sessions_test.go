package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// localGateway is a gateway without a cloud that is ended and started again.
type localGateway struct {
	*harness.Process
	dir  string
	addr string
}

func startLocal(t *testing.T, args ...string) *localGateway {
	t.Helper()
	g := &localGateway{dir: t.TempDir(), addr: fmt.Sprint("127.0.0.1:", freePort(t))}
	g.start(t, args...)
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			keepLogs(t, g.dir)
		}
	})
	return g
}

func (g *localGateway) start(t *testing.T, args ...string) {
	t.Helper()
	args = append([]string{"--data", filepath.Join(g.dir, "edge"), "--mqtt", g.addr, "--http", "off"}, args...)
	p, err := harness.Start(g.dir, "edge", "weir-edge", args...)
	if err != nil {
		t.Fatal(err)
	}
	g.Process = p
}

// mqttConn speaks MQTT 3.1.1, packet by packet.
type mqttConn struct {
	nc net.Conn
	r  *bufio.Reader
}

func mqttString(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// mqttDial connects with a session that outlives the connection.
func mqttDial(addr, id string) (*mqttConn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c := &mqttConn{nc, bufio.NewReader(nc)}
	body := append(mqttString("MQTT"), 4, 0, 0, 30)
	if err = c.write(0x10, append(body, mqttString(id)...)); err == nil {
		var kind byte
		if kind, body, err = c.read(); err == nil && (kind != 0x20 || body[1] != 0) {
			err = fmt.Errorf("CONNACK %#x %v", kind, body)
		}
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *mqttConn) write(kind byte, body []byte) error {
	head := binary.AppendUvarint([]byte{kind}, uint64(len(body))) // MQTT's variable length is the same
	c.nc.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.nc.Write(append(head, body...))
	return err
}

func (c *mqttConn) read() (kind byte, body []byte, err error) {
	c.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	if kind, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.r, body)
	return kind, body, err
}

// numberedPublisher sends numbered messages, one after the other, until each is
// acknowledged to the end, whatever happens to the gateway.
type numberedPublisher struct {
	addr, topic string
	qos         byte
	acked       atomic.Int64 // messages that were acknowledged to the end
	stop        atomic.Bool
}

func (p *numberedPublisher) run() {
	var c *mqttConn
	released := false // PUBREC came for the message under way
	for n := 0; !p.stop.Load(); {
		if c == nil {
			var err error
			if c, err = mqttDial(p.addr, "pub-"+p.topic); err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
		}
		if err := p.send(c, n, &released); err != nil {
			c.nc.Close()
			c = nil
			continue
		}
		n, released = n+1, false
		p.acked.Store(int64(n))
	}
	if c != nil {
		c.nc.Close()
	}
}

func (p *numberedPublisher) send(c *mqttConn, n int, released *bool) error {
	id := binary.BigEndian.AppendUint16(nil, uint16(n%1000+1))
	await := func(want byte) error {
		kind, body, err := c.read()
		if err == nil && (kind&0xf0 != want || string(body[:2]) != string(id)) {
			err = fmt.Errorf("got %#x, want %#x", kind, want)
		}
		return err
	}
	if !*released {
		body := append(append(mqttString(p.topic), id...), strconv.Itoa(n)...)
		if err := c.write(0x30|p.qos<<1, body); err != nil {
			return err
		}
		if p.qos == 1 {
			return await(0x40)
		}
		if err := await(0x50); err != nil {
			return err
		}
		*released = true
	}
	if err := c.write(0x62, id); err != nil {
		return err
	}
	return await(0x70)
}

// numberedReader is a subscriber with a session: it keeps QoS 2 ids as the
// standard says, and counts what it gets.
type numberedReader struct {
	addr, id string
	have     map[string]bool
	mu       sync.Mutex
	got      map[string]int // by topic and payload
}

// visit reads for a while, or until the gateway ends the connection.
func (r *numberedReader) visit(long time.Duration, subscribe ...string) error {
	c, err := mqttDial(r.addr, r.id)
	if err != nil {
		return err
	}
	defer c.nc.Close()
	if len(subscribe) > 0 {
		body := []byte{0, 1}
		for _, f := range subscribe {
			body = append(append(body, mqttString(f)...), 2)
		}
		if err := c.write(0x82, body); err != nil {
			return err
		}
	}
	for end := time.Now().Add(long); time.Now().Before(end); {
		c.nc.SetReadDeadline(end)
		if _, err := c.r.Peek(1); err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				return nil
			}
			return err
		}
		kind, body, err := c.read()
		if err != nil {
			return err
		}
		if err := r.take(c, kind, body); err != nil {
			return err
		}
	}
	return nil
}

func (r *numberedReader) take(c *mqttConn, kind byte, body []byte) error {
	switch kind & 0xf0 {
	case 0x30:
		n := 2 + int(binary.BigEndian.Uint16(body))
		topic, qos := string(body[2:n]), kind>>1&3
		id, payload := string(body[n:n+2]), string(body[n+2:])
		if qos == 1 || !r.have[id] {
			r.mu.Lock()
			r.got[topic+" "+payload]++
			r.mu.Unlock()
		}
		if qos == 1 {
			return c.write(0x40, []byte(id))
		}
		r.have[id] = true
		return c.write(0x50, []byte(id))
	case 0x60:
		delete(r.have, string(body[:2]))
		return c.write(0x70, body[:2])
	case 0x90:
		return nil
	}
	return fmt.Errorf("packet %#x", kind)
}

func (r *numberedReader) count(topic string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for key := range r.got {
		if strings.HasPrefix(key, topic+" ") {
			n++
		}
	}
	return n
}

// TestSessionsThroughKills: two publishers send at QoS 1 and 2 while the
// gateway is killed and stopped again and again. A subscriber that is there all
// the time and one that comes seldom, both with a session, get everything that
// was acknowledged, and nothing twice of what was published at QoS 2.
func TestSessionsThroughKills(t *testing.T) {
	rounds := 5
	if soak() {
		rounds = 50
	}
	rng := newRand(t)
	g := startLocal(t)
	var readers []*numberedReader
	for _, id := range []string{"always", "seldom"} {
		r := &numberedReader{addr: g.addr, id: id, have: make(map[string]bool), got: make(map[string]int)}
		if err := r.visit(time.Second/2, "once", "again"); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	publishers := []*numberedPublisher{{addr: g.addr, topic: "again", qos: 1}, {addr: g.addr, topic: "once", qos: 2}}
	var publishing, reading sync.WaitGroup
	for _, p := range publishers {
		publishing.Go(p.run)
	}
	ended := make(chan struct{})
	for i, r := range readers {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		reading.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(time.Duration(own.IntN(20)+i*1500) * time.Millisecond):
				}
				// An error is the end of the gateway, or of a start that is not over.
				_ = r.visit(time.Duration(own.IntN(400)+50) * time.Millisecond)
			}
		})
	}
	for round := range 2 * rounds {
		timer := time.NewTimer(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		<-timer.C
		if round%2 == 0 {
			g.Kill()
		} else if err := g.Stop(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		g.start(t)
	}
	for _, p := range publishers {
		p.stop.Store(true)
	}
	publishing.Wait()
	close(ended)
	reading.Wait()
	for _, r := range readers {
		within(t, time.Minute, "everything at "+r.id, func() bool {
			if err := r.visit(time.Second / 2); err != nil {
				t.Fatal(err)
			}
			return r.count("once") >= int(publishers[1].acked.Load()) && r.count("again") >= int(publishers[0].acked.Load())
		})
		for _, p := range publishers {
			checkNumbers(t, r, p)
		}
	}
}

// checkNumbers compares what a subscriber got with what its publisher was told.
func checkNumbers(t *testing.T, r *numberedReader, p *numberedPublisher) {
	t.Helper()
	acked, missing, doubled := int(p.acked.Load()), 0, 0
	for n := range acked {
		switch got := r.got[p.topic+" "+strconv.Itoa(n)]; {
		case got == 0:
			missing++
		case got > 1 && p.qos == 2:
			doubled++
		}
	}
	t.Logf("%s, QoS %d: %d acknowledged, %d missing, %d doubled", r.id, p.qos, acked, missing, doubled)
	if acked < 100 || missing > 0 || doubled > 0 {
		t.Errorf("%s lacks %d of %d at QoS %d, and has %d twice", r.id, missing, acked, p.qos, doubled)
	}
}

// TestHomeAssistant: discovery as Home Assistant subscribes to it, with 5,000
// retained configurations, and then the states that they name.
func TestHomeAssistant(t *testing.T) {
	sub := need(t, "mosquitto_sub", "mosquitto-clients")
	g := startLocal(t)
	host, port, err := net.SplitHostPort(g.addr)
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	pub, err := mqttDial(g.addr, "zigbee2mqtt")
	if err != nil {
		t.Fatal(err)
	}
	defer pub.nc.Close()
	retain := func(topic, payload string) {
		t.Helper()
		if err := pub.write(0x33, append(append(mqttString(topic), 0, 1), payload...)); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := pub.read(); err != nil || kind != 0x40 {
			t.Fatalf("%#x, %v", kind, err)
		}
	}
	for i := range n {
		state := fmt.Sprint("zigbee2mqtt/", i)
		config := fmt.Sprintf(`{"name":"sensor %d","state_topic":"%s","unique_id":"0x%016x","device":{"identifiers":["%d"],"model":"%s"}}`,
			i, state, i, i, strings.Repeat("m", 400))
		retain(fmt.Sprintf("homeassistant/sensor/0x%016x/config", i), config)
	}
	for _, qos := range []string{"0", "1"} {
		args := []string{"-h", host, "-p", port, "-q", qos, "-W", "50", "-C", strconv.Itoa(n), "-F", "%t",
			"-t", "homeassistant/+/+/config", "-t", "homeassistant/+/+/+/config"}
		seen := make(map[string]bool)
		for _, topic := range strings.Fields(command(t, sub, args...)) {
			seen[topic] = true
		}
		if len(seen) != n {
			t.Errorf("at QoS %s %d of %d configurations arrive", qos, len(seen), n)
		}
	}
	// Then one subscription for each state, each with its retained value.
	const states = 500
	args := []string{"-h", host, "-p", port, "-q", "0", "-W", "50", "-C", strconv.Itoa(states), "-F", "%t"}
	for i := range states {
		retain(fmt.Sprint("zigbee2mqtt/", i), "ON")
		args = append(args, "-t", fmt.Sprint("zigbee2mqtt/", i))
	}
	if got := len(strings.Fields(command(t, sub, args...))); got != states {
		t.Errorf("%d of %d states arrive", got, states)
	}
}
