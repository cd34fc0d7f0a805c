package peer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// TestStream: a stream carries more than any request may, both ways at once, and each
// end sees the other one go.
func TestStream(t *testing.T) {
	const size = 4 << 20
	ca := newCA(t)
	ended, served := make(chan error, 1), make(chan io.Closer, 2)
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.AMQP = func(description []byte, stream io.ReadWriteCloser) error {
			var name string
			if err := json.Unmarshal(description, &name); err != nil {
				return err
			}
			switch name {
			case "elsewhere":
				return ErrElsewhere
			case "busy":
				return errors.New("not now")
			}
			_, err := io.Copy(stream, io.MultiReader(strings.NewReader("!"), stream))
			ended <- err
			served <- stream
			return nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	open := func(what any) (io.ReadWriteCloser, error) { return b.OpenAMQP(t.Context(), "a", p.addr, what) }
	if _, err := open("elsewhere"); !errors.Is(err, ErrElsewhere) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, err := open("busy"); err == nil || errors.Is(err, ErrElsewhere) {
		t.Errorf("busy: %v", err)
	}
	if _, err := open(strings.Repeat("x", maxPreamble)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long description: %v", err)
	}
	stream, err := open("echo")
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := stream.Write([]byte(strings.Repeat("x", size)))
		sent <- err
	}()
	got := make([]byte, 1+size)
	if _, err := io.ReadFull(stream, got); err != nil || got[0] != '!' || got[size] != 'x' {
		t.Fatalf("read: %v", err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	<-ended // the other end has seen it
	over := <-served

	if stream, err = open("echo"); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stream); err == nil {
		t.Error("the end of the other node is not seen")
	}
	if _, err := stream.Write(make([]byte, 1<<20)); err == nil {
		t.Error("the node that is gone takes what is written")
	}
	<-ended
	_ = stream.Close()
	for _, end := range []io.Closer{over, <-served} { // a timer may do it later
		if err := end.Close(); err != nil {
			t.Errorf("close a stream that has ended: %v", err)
		}
	}
}

// TestStreamRefused: a node that does not know streams, and one that does not answer.
func TestStreamRefused(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{})
	b := client(t, identity(t, ca, "b"))
	if _, err := b.OpenAMQP(t.Context(), "a", p.addr, "x"); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node without streams: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.OpenAMQP(ctx, "a", ln.Addr().String(), "x"); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that says nothing: %v", err)
	}
}

// TestStreams: a node has room for more streams than one connection takes, and streams that
// nobody reads do not stop the others.
func TestStreams(t *testing.T) {
	ca := newCA(t)
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Relay = func(description []byte, stream io.ReadWriteCloser) error {
			var stuck bool
			if err := json.Unmarshal(description, &stuck); err != nil {
				return err
			}
			if _, err := stream.Write(nil); err != nil { // the stream is open
				return err
			}
			if stuck {
				<-t.Context().Done()
				return nil
			}
			_, err := io.Copy(stream, stream)
			return err
		}
	})
	b := client(t, identity(t, ca, "b"))
	var open []io.ReadWriteCloser
	defer func() {
		for _, s := range open {
			s.Close()
		}
	}()
	for i := range maxCalls + 10 {
		stream, err := b.OpenKafka(t.Context(), "a", p.addr, i%2 == 0)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		open = append(open, stream)
	}
	for i, stream := range open {
		if i%2 == 0 {
			go func() { _, _ = stream.Write(make([]byte, 2*maxUnread)) }() // as much as fits
		}
	}
	for i, stream := range open {
		if i%2 == 0 {
			continue
		}
		go func() { _, _ = stream.Write(make([]byte, 2*maxUnread)) }()
		if _, err := io.ReadFull(stream, make([]byte, 2*maxUnread)); err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	}
}
