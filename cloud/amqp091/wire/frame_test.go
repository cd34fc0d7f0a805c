package wire

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func frame(typ FrameType, channel uint16, payload []byte) []byte {
	return append(append(appendFrameHeader(nil, typ, channel, len(payload)), payload...), frameEnd)
}

func TestPrefaces(t *testing.T) {
	for text, want := range map[string]Protocol{
		"AMQP\x00\x00\x09\x01": AMQP091, "AMQP\x01\x01\x00\x09": AMQP09, "AMQP\x00\x01\x00\x00": AMQP10, "AMQP\x02\x01\x00\x00": AMQP10TLS,
		"AMQP\x03\x01\x00\x00": AMQP10SASL, "AMQP\x00\x00\x08\x00": OtherVersion, "AMQP\x01\x01\x08\x00": OtherVersion, "GET / HT": HTTP,
		"\x16\x03\x01\x02\x00\x01\x00\x01": TLS, "XXXXXXXX": Unknown,
	} {
		rest := bytes.NewBufferString(text + "rest")
		if p, err := ReadPreface(rest); err != nil || p.Protocol() != want || rest.String() != "rest" {
			t.Errorf("%q: %v, %v, left %q", text, p.Protocol(), err, rest)
		}
	}
	if _, err := ReadPreface(bytes.NewBufferString("AMQ")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// Frames of all sizes come out as they went in, however the stream is cut.
func TestReadFrames(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 100, 4087, 4096, 5000, maxBuffer - FrameOverhead, maxBuffer - FrameOverhead + 1, 100_000, 131072, 3}
	for i, n := range sizes {
		stream = append(stream, frame(FrameBody, uint16(i), bytes.Repeat([]byte{byte(i)}, n))...)
	}
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "bytes": iotest.OneByteReader(bytes.NewReader(stream)),
		"halves": iotest.HalfReader(bytes.NewReader(stream)), "early EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		c := NewReader(r)
		c.SetFrameMax(131072)
		for i, n := range sizes {
			f, err := c.Next()
			if err != nil || f.Channel != uint16(i) || f.Type != FrameBody || !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(i)}, n)) {
				t.Fatalf("%s: frame %d: channel %d, %d bytes, %v", name, i, f.Channel, len(f.Payload), err)
			}
			if f.Owned != (n+FrameOverhead > maxBuffer) {
				t.Errorf("%s: frame %d is owned: %v", name, i, f.Owned)
			}
		}
		if _, err := c.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
}

func TestCutFrames(t *testing.T) {
	for _, whole := range [][]byte{frame(FrameBody, 1, []byte("body")), frame(FrameBody, 1, make([]byte, 50_000))} {
		for n := 1; n < len(whole); n += 1 + n/3 {
			c := NewReader(bytes.NewReader(whole[:n]))
			c.SetFrameMax(131072)
			if _, err := c.Next(); err != io.ErrUnexpectedEOF {
				t.Fatalf("cut to %d: %v", n, err)
			}
		}
	}
}

func TestBuffered(t *testing.T) {
	one := frame(FrameBody, 1, []byte("body"))
	c := NewReader(bytes.NewReader(append(bytes.Repeat(one, 2), one[:10]...)))
	for _, want := range []bool{true, false} {
		if _, err := c.Next(); err != nil || c.Buffered() != want {
			t.Errorf("%v, %v, want %v", err, c.Buffered(), want)
		}
	}
}

// What a frame announces takes no memory before it is there.
func TestAnnouncedMemory(t *testing.T) {
	head := append(appendFrameHeader(nil, FrameBody, 1, 1<<30), 'x')
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := NewReader(bytes.NewReader(head))
	c.SetFrameMax(0)
	if _, err := c.Next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d bytes", after.TotalAlloc-before.TotalAlloc)
	}
}

// The answers are those of RabbitMQ 3.10.8 to the same bytes, except where README.md says
// that it only closes the connection, or answers INTERNAL_ERROR.
func TestMistakes(t *testing.T) {
	method := func(h string) []byte { return frame(FrameMethod, 1, unhex(t, h)) }
	header := func(h string) []byte { return frame(FrameHeader, 1, unhex(t, h)) }
	publish := method("003c0028 0000 00 01 71 00")
	body := func(s string) []byte { return frame(FrameBody, 1, []byte(s)) }
	broken := func(f []byte, end byte) []byte { f[len(f)-1] = end; return f }
	for _, x := range []struct {
		name   string
		stream [][]byte
		want   string
		id     MethodID
	}{
		{"frame end", [][]byte{broken(method("0014000a00"), 0)}, "FRAME_ERROR - type 1, all octets = <<0,20,0,10,0>>: {invalid_frame_end_marker,0}", 0},
		{"frame end of a text", [][]byte{broken(body("hello world 0123456789"), 'X')}, `FRAME_ERROR - type 3, first 16 octets = <<"hello world 0123">>: {invalid_frame_end_marker,88}`, 0},
		{"type", [][]byte{frame(4, 1, []byte("abc"))}, `FRAME_ERROR - type 4, all octets = <<"abc">>: unknown_frame`, 0},
		{"heartbeat on a channel", [][]byte{frame(FrameHeartbeat, 1, nil)}, "UNEXPECTED_FRAME - type 8, all octets = <<>>", 0},
		{"heartbeat with payload", [][]byte{frame(FrameHeartbeat, 0, []byte("x"))}, `FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame`, 0},
		{"method without ids", [][]byte{frame(FrameMethod, 1, []byte{0, 1})}, "FRAME_ERROR - type 1, all octets = <<0,1>>: unknown_frame", 0},
		{"short header", [][]byte{frame(FrameHeader, 1, []byte{0, 60})}, "FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame", 0},
		{"too large", [][]byte{appendFrameHeader(nil, FrameMethod, 1, 4097)}, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4097,4088}", 0},
		{"slightly too large", [][]byte{frame(FrameBody, 1, make([]byte, 4096))}, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0},
		{"unknown method", [][]byte{method("003c0063")}, "NOT_IMPLEMENTED - no method 99 in class 60", 60<<16 | 99},
		{"method of the server", [][]byte{method("0032000b 01 63 0000000000000000")}, "COMMAND_INVALID - unimplemented method", IDQueueDeclareOk},
		{"delivery from a client", [][]byte{method("003c003c 01 63 0000000000000000 00 00 00")}, "COMMAND_INVALID - unimplemented method", IDBasicDeliver},
		{"short arguments", [][]byte{method("0032000a 0000 01 71")}, "FRAME_ERROR - cannot decode <<0,0,1,113>>", IDQueueDeclare},
		{"long arguments", [][]byte{method("003c000a 00000000 0000 00 78")}, "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,120>>", IDBasicQos},
		{"not UTF-8", [][]byte{method("0032000a 0000 02 fffe 02 00000000")}, "FRAME_ERROR - Malformed UTF-8 in shortstr", IDQueueDeclare},
		{"bad table", [][]byte{method("0032000a 0000 01 71 00 00000004 016b5a00")}, "SYNTAX_ERROR - cannot decode table <<1,107,90,0>>", IDQueueDeclare},
		{"body first", [][]byte{body("x")}, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0},
		{"header first", [][]byte{header("003c 0000 0000000000000000 0000")}, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0},
		{"header of another class", [][]byte{publish, header("0032 0000 0000000000000000 0000")}, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead", IDBasicPublish},
		{"weight", [][]byte{publish, header("003c 0001 0000000000000000 0000")}, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", IDBasicPublish},
		{"method for a header", [][]byte{publish, publish}, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", IDBasicPublish},
		{"method for a body", [][]byte{publish, header("003c 0000 0000000000000005 0000"), publish}, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", IDBasicPublish},
		{"long body", [][]byte{publish, header("003c 0000 0000000000000002 0000"), body("xxx")}, "FRAME_ERROR - content body frame exceeds remaining content size", IDBasicPublish},
		{"huge body", [][]byte{publish, header("003c 0000 0000000000100001 0000")}, "PRECONDITION_FAILED - message size 1048577 is larger than configured max size 1048576", IDBasicPublish},
		{"content on channel 0", [][]byte{frame(FrameBody, 0, []byte("x"))}, `UNEXPECTED_FRAME - type 3, all octets = <<"x">>`, 0},
	} {
		c, a := NewReader(bytes.NewReader(bytes.Join(x.stream, nil))), Assembler{From: Client, MaxBody: 1 << 20}
		var err error
		for err == nil {
			var f Frame
			if f, err = c.Next(); err == nil {
				_, err = a.Add(f)
			}
		}
		var e *Error
		if !errors.As(err, &e) || e.Error() != x.want || e.Method != x.id {
			t.Errorf("%s: %v (%v), want %s (%v)", x.name, err, e, x.want, x.id)
			continue
		}
		channel, closing := e.Close(1)
		if id := closing.ID(); (id == IDConnectionClose) != e.Code.Hard() || (channel == 0) != e.Code.Hard() {
			t.Errorf("%s: %v on channel %d", x.name, id, channel)
		}
	}
}

func TestReplyText(t *testing.T) {
	e := &Error{Code: NotFound, Text: string(bytes.Repeat([]byte("ä"), 200))}
	if text := e.ReplyText(); len(text) > MaxShortString || len(text) < 250 || text[len(text)-5:] != "ä..." {
		t.Errorf("%d bytes: %q", len(text), text)
	}
	if e := (&Error{Code: InternalError}); e.ReplyText() != "INTERNAL_ERROR" {
		t.Error(e.ReplyText())
	}
	if channel, m := (&Error{Code: NotFound, Method: IDQueueDeclare}).Close(7); channel != 7 || m.(*ChannelClose).ClassID != 50 || m.(*ChannelClose).MethodID != 10 {
		t.Errorf("%+v on %d", m, channel)
	}
}

// Bodies of all sizes and pieces survive writing in frames and reading, and no frame is
// larger than the frame-max.
func TestContent(t *testing.T) {
	for _, size := range []int{0, 1, 100, 4088, 4089, 10_000, 200_000} {
		for _, frameMax := range []uint32{4096, 131072, 0} {
			body := bytes.Repeat([]byte("abcdefg"), size/7+1)[:size]
			w := NewWriter()
			w.SetFrameMax(frameMax)
			props, err := (&Properties{Flags: HasMessageID, MessageID: "id"}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := w.Content(3, &BasicPublish{RoutingKey: "q"}, props, body[:size/3], nil, body[size/3:]); err != nil {
					t.Fatal(err)
				}
				w.Heartbeat()
			}
			want := w.Len()
			var stream bytes.Buffer
			if n, err := w.WriteTo(&stream); err != nil || int(n) != want || stream.Len() != want || w.Len() != 0 {
				t.Fatalf("%d of %d bytes, %v, %d left", n, want, err, w.Len())
			}
			c, a := NewReader(&stream), Assembler{From: Client, MaxBody: 1 << 20}
			c.SetFrameMax(frameMax)
			for range 2 {
				readContent(t, c, &a, int(frameMax), body)
			}
		}
	}
}

func readContent(t *testing.T, c *Reader, a *Assembler, frameMax int, body []byte) {
	t.Helper()
	for done := false; !done; {
		f, err := c.Next()
		if err != nil || frameMax > 0 && len(f.Payload)+FrameOverhead > frameMax {
			t.Fatalf("frame of %d bytes, %v", len(f.Payload), err)
		}
		if done, err = a.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	var p Properties
	if err := p.Decode(a.Properties()); err != nil || p.MessageID != "id" || a.Method().(*BasicPublish).RoutingKey != "q" || !bytes.Equal(a.Body(), body) || !a.Idle() {
		t.Errorf("%+v, %+v, %d bytes of %d, %v", a.Method(), p, len(a.Body()), len(body), err)
	}
	if f, err := c.Next(); err != nil || f.Type != FrameHeartbeat {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestWhatDoesNotFit(t *testing.T) {
	w := NewWriter()
	if err := w.Method(1, &ConnectionSecure{Challenge: make([]byte, 5000)}); !errors.Is(err, ErrTooLarge) || w.Len() != 0 {
		t.Error(err, w.Len())
	}
	if err := w.Content(1, &BasicPublish{Exchange: string(make([]byte, 256))}, nil); !errors.Is(err, ErrTooLong) || w.Len() != 0 {
		t.Error(err, w.Len())
	}
	if err := w.Content(1, &BasicPublish{}, make([]byte, 5000)); !errors.Is(err, ErrTooLarge) || w.Len() != 0 {
		t.Error(err, w.Len())
	}
}

// TestTrim: a writer gives up memory when nothing waits, and another one uses it.
func TestTrim(t *testing.T) {
	var spare Spare
	w, other := NewWriter(), NewWriter()
	w.Spare, other.Spare = &spare, &spare
	w.SetFrameMax(0)
	large := &ConnectionSecure{Challenge: make([]byte, 2*keepBuffer)}
	if err := w.Method(1, large); err != nil {
		t.Fatal(err)
	}
	if w.Trim(); w.Len() < 2*keepBuffer {
		t.Fatal("what waits is gone")
	}
	if _, err := w.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	w.Trim()
	if cap(w.buf) > 0 {
		t.Errorf("%d bytes stay", cap(w.buf))
	}
	other.SetFrameMax(0)
	var out bytes.Buffer
	if err := other.Method(1, large); err != nil {
		t.Fatal(err)
	}
	if _, err := other.WriteTo(&out); err != nil || out.Len() < 2*keepBuffer {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
	small := NewWriter()
	small.Heartbeat()
	if _, err := small.WriteTo(io.Discard); err != nil {
		t.Fatal(err)
	}
	if small.Trim(); cap(small.buf) == 0 {
		t.Error("little memory does not stay")
	}
}

// endless repeats what it has for ever.
type endless struct{ data, rest []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		e.rest = e.data
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// publishes is a stream of one publish with a body of n bytes.
func publishes(t testing.TB, n int) []byte {
	props, err := (&Properties{Flags: HasContentType | HasDeliveryMode, ContentType: "text/plain", DeliveryMode: 2}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter()
	if err := w.Content(1, &BasicPublish{Exchange: "amq.topic", RoutingKey: "a.b.c"}, props, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := w.WriteTo(&stream); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

// readPublish reads one publish, and its properties.
func readPublish(t testing.TB, c *Reader, a *Assembler, p *Properties) {
	for done := false; !done; {
		f, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if done, err = a.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Decode(a.Properties()); err != nil {
		t.Fatal(err)
	}
}

// A publish like the one before it is read, and a delivery and a confirm are written, without
// an allocation.
func TestAllocations(t *testing.T) {
	c, a, p := NewReader(&endless{data: publishes(t, 100)}), Assembler{From: Client, MaxBody: 1 << 20}, new(Properties)
	if n := testing.AllocsPerRun(1000, func() { readPublish(t, c, &a, p) }); n > 0 {
		t.Errorf("%v allocations for a publish", n)
	}
	w, deliver, ack, body := NewWriter(), &BasicDeliver{ConsumerTag: "c", RoutingKey: "a.b.c"}, new(BasicAck), make([]byte, 1024)
	if n := testing.AllocsPerRun(1000, func() {
		deliver.DeliveryTag++
		ack.DeliveryTag++
		if err := errors.Join(w.Content(1, deliver, a.Properties(), body), w.Method(1, ack)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteTo(io.Discard); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a delivery and a confirm", n)
	}
}

func BenchmarkReadPublish(b *testing.B) {
	for _, x := range []struct {
		name string
		size int
	}{{"100B", 100}, {"1KiB", 1024}} {
		b.Run(x.name, func(b *testing.B) {
			c, a, p := NewReader(&endless{data: publishes(b, x.size)}), Assembler{From: Client, MaxBody: 1 << 20}, new(Properties)
			b.ReportAllocs()
			for b.Loop() {
				readPublish(b, c, &a, p)
			}
		})
	}
}

func BenchmarkWriteDeliver(b *testing.B) {
	for _, x := range []struct {
		name string
		size int
	}{{"100B", 100}, {"1KiB", 1024}} {
		b.Run(x.name, func(b *testing.B) {
			w, m, body := NewWriter(), &BasicDeliver{ConsumerTag: "c", Exchange: "amq.topic", RoutingKey: "a.b.c"}, make([]byte, x.size)
			b.ReportAllocs()
			for b.Loop() {
				m.DeliveryTag++
				if err := w.Content(1, m, nil, body); err != nil {
					b.Fatal(err)
				}
				if _, err := w.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever a peer sends is read or refused, and what was read is written as it was.
func FuzzFrames(f *testing.F) {
	f.Add(publishes(f, 10))
	for text := range vectors(f) {
		f.Add(frame(FrameMethod, 1, unhexSeed(text)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, a := NewReader(bytes.NewReader(data)), Assembler{From: Client | Server, MaxBody: 1 << 20}
		for {
			frame, err := c.Next()
			if err != nil {
				return
			}
			done, err := a.Add(frame)
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			if done {
				writeAgain(t, &a)
			}
		}
	})
}

func writeAgain(t *testing.T, a *Assembler) {
	args, err := a.Method().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := NewMethod(a.Method().ID())
	if err := m.Decode(args); err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	var p Properties
	if !a.Method().ID().Content() || p.Decode(a.Properties()) != nil {
		return
	}
	if raw, err := p.Append(nil); err != nil || !bytes.Equal(raw, a.Properties()) {
		t.Fatalf("%x, %v, want %x", raw, err, a.Properties())
	}
}

func FuzzTable(f *testing.F) {
	f.Add(unhexSeed(everything))
	f.Add(append(append([]byte{255}, bytes.Repeat([]byte("n"), 255)...), 't', 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		parsed, err := ParseTable(raw)
		if err != nil {
			return
		}
		var again Builder
		for name, v := range parsed.All() {
			again.Add(name, v)
			if Inequivalence(name, parsed, parsed) != "" && parsed.Lookup(name).String() != "NaN" {
				t.Errorf("%s differs from itself", name)
			}
		}
		if same, err := again.Table(); err != nil || !bytes.Equal(same.Raw(), raw) {
			t.Fatalf("%x, %v, want %x", same.Raw(), err, raw)
		}
	})
}
