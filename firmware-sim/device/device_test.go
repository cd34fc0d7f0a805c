package device

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
)

// broker plays the other end: it takes packets apart just enough to answer.
type broker struct {
	t        *testing.T
	listener net.Listener
	mu       sync.Mutex // guards got
	got      []seen
}

type seen struct {
	kind byte
	id   uint16
	dup  bool
}

func newBroker(t *testing.T, serve func(b *broker, n int, c *wire)) *broker {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{t: t, listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(b, n, &wire{conn, bufio.NewReader(conn)})
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

type wire struct {
	net.Conn
	r *bufio.Reader
}

// next reads one packet of an MQTT 3.1.1 device.
func (b *broker) next(c *wire) (seen, bool) {
	first, err := c.r.ReadByte()
	if err != nil {
		return seen{}, false
	}
	size, err := binary.ReadUvarint(c.r)
	if err != nil {
		return seen{}, false
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return seen{}, false
	}
	s := seen{kind: first >> 4, dup: first&8 != 0}
	switch s.kind {
	case typePublish:
		topic := int(binary.BigEndian.Uint16(body))
		s.id = binary.BigEndian.Uint16(body[2+topic:])
	case typePubrel:
		s.id = binary.BigEndian.Uint16(body)
	}
	b.mu.Lock()
	b.got = append(b.got, s)
	b.mu.Unlock()
	return s, true
}

func (c *wire) say(kind byte, id uint16) { c.Write([]byte{kind << 4, 2, byte(id >> 8), byte(id)}) }

func config(b *broker, qos byte, count int, events *[]Outcome) Config {
	return Config{ID: "d", Broker: b.listener.Addr().String(), Topic: "t", QoS: qos, Version: 4,
		Count: count, InFlight: 4, Event: func(_ Reading, o Outcome) { *events = append(*events, o) }}
}

// TestSendsAgainInOrder: what had no PUBACK when the connection broke comes
// again first, with DUP and the same ids.
func TestSendsAgainInOrder(t *testing.T) {
	b := newBroker(t, func(b *broker, n int, c *wire) {
		b.next(c)
		c.Write([]byte{typeConnack << 4, 2, 1, 0})
		for i := 0; ; i++ {
			s, ok := b.next(c)
			if !ok || n == 0 && i == 3 {
				return
			}
			if s.kind == typePublish && (n > 0 || i == 0) {
				c.say(typePuback, s.id)
			}
		}
	})
	var events []Outcome
	Run(context.Background(), config(b, 1, 6, &events))
	b.mu.Lock()
	defer b.mu.Unlock()
	again := slices.IndexFunc(b.got, func(s seen) bool { return s.dup })
	if again < 0 {
		t.Fatalf("nothing was sent again: %v", b.got)
	}
	rest := slices.DeleteFunc(slices.Clone(b.got[again:]), func(s seen) bool { return s.kind != typePublish })
	for i, s := range rest {
		if want := uint16(i) + rest[0].id; s.id != want {
			t.Errorf("packet %d after the break has id %d, want %d: %v", i, s.id, want, rest)
		}
	}
	if acked := count(events, Acked); acked != 6 {
		t.Errorf("%d of 6 acked", acked)
	}
}

func count(events []Outcome, o Outcome) (n int) {
	for _, e := range events {
		if e == o {
			n++
		}
	}
	return n
}

// TestQoS2Resumes: after PUBREC only the PUBREL is sent again.
func TestQoS2Resumes(t *testing.T) {
	b := newBroker(t, func(b *broker, n int, c *wire) {
		b.next(c)
		c.Write([]byte{typeConnack << 4, 2, 1, 0})
		for {
			s, ok := b.next(c)
			switch {
			case !ok || n == 0 && s.kind == typePubrel:
				return
			case s.kind == typePublish:
				c.say(typePubrec, s.id)
			case s.kind == typePubrel:
				c.say(typePubcomp, s.id)
			}
		}
	})
	var events []Outcome
	Run(context.Background(), config(b, 2, 1, &events))
	b.mu.Lock()
	defer b.mu.Unlock()
	var kinds []byte
	for _, s := range b.got {
		if s.kind != typeDisconnect { // may still be on its way here
			kinds = append(kinds, s.kind)
		}
	}
	want := []byte{typeConnect, typePublish, typePubrel, typeConnect, typePubrel}
	if !bytes.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
	if count(events, Acked) != 1 || count(events, Unfinished) != 0 {
		t.Errorf("events %v", events)
	}
}

func TestLedgerRoundTrip(t *testing.T) {
	var file bytes.Buffer
	l := NewLedger(&file)
	want := []Reading{{"a", 1, 1, 2, true}, {"b", 7, 0, 1, false}, {"a", 2, 2, 1, false}}
	for i, r := range want {
		l.Event(r, []Outcome{Acked, Sent, Unfinished}[i])
	}
	l.Event(Reading{"a", 3, 1, 1, false}, Sent) // not done with yet
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []Reading
	if err := ReadLedger(&file, func(r Reading) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"x", "a\t1\t1\t1", "a\t0\t1\t1\t1", "a\t1\t3\t1\t1", "\t1\t1\t1\t1", "a\tx\t1\t1\t1"} {
		if err := ReadLedger(strings.NewReader(bad), func(Reading) {}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzReadPacket(f *testing.F) {
	f.Add([]byte{typePuback << 4, 2, 0, 1})
	f.Add([]byte{typeConnack << 4, 3, 1, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		r := bufio.NewReader(bytes.NewReader(body))
		for {
			if _, err := readPacket(r); err != nil {
				return
			}
		}
	})
}
