package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func openStore(t testing.TB, path string) *FileStore {
	t.Helper()
	s, err := OpenStore(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// loadAll opens the file and returns its events.
func loadAll(t testing.TB, path string) (*FileStore, []string) {
	t.Helper()
	s := openStore(t, path)
	var out []string
	if err := s.Load(func(p []byte) error { out = append(out, string(p)); return nil }); err != nil {
		t.Fatal(err)
	}
	return s, out
}

// sampleEvents are n events that begin as real ones do.
func sampleEvents(n int) (out [][]byte) {
	for i := range n {
		e := event{kind: eventSession, client: fmt.Sprintf("client-%d", i), expiry: 0x11111111 + uint32(i)}
		out = append(out, e.encode())
	}
	return out
}

func stringsOf(events [][]byte) (out []string) {
	for _, p := range events {
		out = append(out, string(p))
	}
	return out
}

func TestStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	events := sampleEvents(10)
	s, got := loadAll(t, path)
	if len(got) != 0 {
		t.Fatal("a new store has events")
	}
	if err := appendTo(s, events[:3]); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(s, events[3:5]); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := appendTo(s, events); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	s, got = loadAll(t, path)
	if !slices.Equal(got, stringsOf(events[:5])) {
		t.Fatalf("got %q", got)
	}
	if err := s.Rewrite(slices.Values(events[7:9])); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(s, events[9:]); err != nil {
		t.Fatal(err)
	}
	if _, got = loadAll(t, path); !slices.Equal(got, stringsOf(events[7:])) {
		t.Fatalf("got %q", got)
	}
}

// appendTo appends events and waits for the answer.
func appendTo(s Store, events [][]byte) error {
	answer := make(chan error, 1)
	s.Append(events, func(err error) { answer <- err })
	return <-answer
}

// TestStoreTorn cuts the file at every byte: what was whole is there, and what
// is appended afterwards too.
func TestStoreTorn(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	events := sampleEvents(4)
	s, _ := loadAll(t, path)
	if err := appendTo(s, events); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	frame := len(events[0]) + frameHeader
	for cut := range len(whole) {
		for _, tail := range [][]byte{nil, make([]byte, 40)} {
			if err := os.WriteFile(path, append(bytes.Clone(whole[:cut]), tail...), 0o600); err != nil {
				t.Fatal(err)
			}
			s, got := loadAll(t, path)
			want := stringsOf(events[:max(0, cut-storeHeader)/frame])
			if !slices.Equal(got, want) {
				t.Fatalf("cut at %d: got %q, want %q", cut, got, want)
			}
			if err := appendTo(s, events[3:]); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if _, got = loadAll(t, path); !slices.Equal(got, append(want, string(events[3]))) {
				t.Fatalf("cut at %d, appended: got %q", cut, got)
			}
		}
	}
}

// TestStoreDamage flips every byte: at most the event that it belongs to is
// missing, and the file is whole again afterwards.
func TestStoreDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	events := sampleEvents(5)
	s, _ := loadAll(t, path)
	if err := appendTo(s, events); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		if i == storeHeader-1 {
			continue // the version byte
		}
		broken := bytes.Clone(whole)
		broken[i] ^= 1 << rand.IntN(8)
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		s, got := loadAll(t, path)
		if i < storeHeader && len(got) != 5 || len(got) < 4 {
			t.Fatalf("byte %d: %d events", i, len(got))
		}
		s.Close()
		if again, err := os.ReadFile(path); err != nil || len(again) != storeHeader+len(got)*(len(events[0])+frameHeader) {
			t.Fatalf("byte %d: the file was not repaired: %v", i, err)
		}
	}
}

func TestStoreNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte(storeMagic+"\x03"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStore(path, quiet()); !errors.Is(err, ErrFormat) {
		t.Fatalf("got %v", err)
	}
}

// TestStorePoisoned: after a failed write nothing is appended, until a
// rewrite.
func TestStorePoisoned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s, _ := loadAll(t, path)
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.file.Close()
	s.file = readOnly
	if err := appendTo(s, sampleEvents(1)); err == nil {
		t.Fatal("no error")
	}
	if err := appendTo(s, sampleEvents(1)); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
	if err := s.Rewrite(slices.Values(sampleEvents(2))); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(s, sampleEvents(1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, got := loadAll(t, path); len(got) != 3 {
		t.Fatalf("%d events", len(got))
	}
}

// TestRewriteBounds: a client that retains the same topic for ever does not
// fill the disk.
func TestRewriteBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	s := start(t, Options{Store: openStore(t, path)})
	c := join(t, s, 4, "c", true)
	payload := strings.Repeat("x", 50_000)
	for i := range 100 {
		pk := publishPacket("a", payload, 1, uint16(i+1))
		pk.FixedHeader.Retain = true
		c.send(pk)
		c.ackOf(4, uint16(i+1))
	}
	c.disconnect()
	s.Close()
	info, err := os.Stat(path)
	if err != nil || info.Size() > 2*rewriteFloor {
		t.Fatalf("%v, %v", info.Size(), err)
	}
	again := start(t, Options{Store: openStore(t, path)})
	if n := again.Stats().Retained; n != 1 {
		t.Fatalf("%d retained", n)
	}
}

func FuzzStore(f *testing.F) {
	var whole []byte
	whole = append(whole, storeMagic+"\x01"...)
	for _, p := range sampleEvents(3) {
		whole = appendFrame(whole, p)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole), make([]byte, 100)...))
	f.Add(append(make([]byte, 50), whole...))
	f.Fuzz(func(t *testing.T, p []byte) {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenStore(path, quiet())
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		defer s.Close()
		var first []string
		if err := s.Load(func(p []byte) error { first = append(first, string(p)); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := appendTo(s, sampleEvents(1)); err != nil {
			t.Fatal(err)
		}
		_, second := loadAll(t, path)
		if !slices.Equal(second, append(first, string(sampleEvents(1)[0]))) {
			t.Fatalf("first %q, then %q", first, second)
		}
	})
}

func sampleMessage() *Message {
	return &Message{
		ClientID: "c", Username: "u", Topic: "a/b", Payload: []byte("payload"), QoS: 2, Retain: true, Version: 5, Will: true,
		Accepted: time.UnixMilli(1_700_000_000_123),
		Properties: Properties{
			HasPayloadFormat: true, PayloadFormat: 1, HasExpiry: true, Expiry: 60, ContentType: "t", ResponseTopic: "r",
			CorrelationData: []byte{1}, User: []UserProperty{{"k", "v"}, {"k", ""}},
		},
	}
}

// FuzzEvent: what decodes encodes to something that decodes to the same.
func FuzzEvent(f *testing.F) {
	sub := subscription{filter: "$share/g/a/+", qos: 2, noLocal: false, retainAsPublished: true, retainHandling: 2, identifier: 99}
	for _, e := range []event{
		{kind: eventSession, client: "c", expiry: never}, {kind: eventEnd, client: "c"},
		{kind: eventSubscribe, client: "c", sub: sub}, {kind: eventUnsubscribe, client: "c", sub: sub},
		{kind: eventInbound, client: "c", id: 7, place: Place("12 bytes, lane, seq 8")},
		{kind: eventInboundAt, client: "c", id: 7, place: "a log's", number: 9},
		{kind: eventRelease, client: "c", id: 7},
		{kind: eventRetain, message: sampleMessage()}, {kind: eventUnretain, topic: "a"},
		{kind: eventInbound, client: "c", id: 7, place: Place("12 bytes, lane, seq 8"), number: 9},
		{kind: eventWill, client: "c", delay: time.Minute, message: &Message{Topic: "a", Accepted: time.UnixMilli(5)}},
		{kind: eventWillGone, client: "c"}, {kind: eventLeft, client: "c", left: time.UnixMilli(1_700_000_000_123)},
		{kind: eventNumber, client: "c", session: 3, number: 4},
		{kind: eventProgress, client: "c", progress: progress{9, []openDelivery{{2, false}, {7, true}}}},
		{kind: eventSegment, number: 3, end: 9, salt: [saltSize]byte{1}}, {kind: eventSegmentGone, number: 3},
		{kind: eventOwedLast, number: 3}, {kind: eventVoid, number: 4},
	} {
		p := e.encode()
		back, err := decodeEvent(p)
		if err != nil || !bytes.Equal(back.encode(), p) {
			f.Fatalf("kind %d: %v", e.kind, err)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		e, err := decodeEvent(p)
		if err != nil {
			return
		}
		again, err := decodeEvent(e.encode())
		if err != nil || !bytes.Equal(again.encode(), e.encode()) {
			t.Fatalf("%+v: %v", e, err)
		}
		newTestLedger(Options{}).apply(&e, new(trimmed))
	})
}

// TestStoreDamagedLength: a length that is wrong costs no memory.
func TestStoreDamagedLength(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	whole := []byte(storeMagic + "\x01")
	whole = appendFrame(whole, sampleEvents(1)[0])
	at := len(whole)
	whole = appendFrame(whole, sampleEvents(1)[0])
	binary.LittleEndian.PutUint32(whole[at:], 60<<20)
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 64<<20); err != nil { // a hole: zeros
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, events := loadAll(t, path); len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes are allocated", n)
	}
}

// TestEarlierPlace: places of earlier versions, which had a buffer, a lane and a
// sequence, are read, and written as they were.
func TestEarlierPlace(t *testing.T) {
	for _, owed := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x09"} {
		p := "\x05\x01c\x00\x07" + "\x01\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x02" + "\x00\x00\x01\x00\x00\x00\x00\x00" + owed
		e, err := decodeEvent([]byte(p))
		if err != nil || e.client != "c" || e.id != 7 || len(e.place) != shortPlace || e.number != uint64(len(owed)/8*9) {
			t.Fatalf("%+v %v", e, err)
		}
		again := inboundEvent(e.client, e.id, e.place, e.number)
		if got := string(again.encode()); got != p {
			t.Errorf("%x became %x", p, got)
		}
	}
}
