package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// TestRecords: questions and answers about records arrive as they are, within bounds, and so
// do messages about partitions that grow; a node of an earlier version does not know them.
func TestRecords(t *testing.T) {
	ca := newCA(t)
	lost := errors.New("the shard is lost")
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Records = func(_ context.Context, what string, question []byte) ([]byte, error) {
			switch what {
			case "damaged":
				return nil, errors.New("cannot be read")
			case "much":
				return make([]byte, maxRecordsAnswer+1), nil
			}
			return append([]byte(what+" "), question...), nil
		}
		o.FollowRecords = func(_ context.Context, shard uint32, tell func([]byte) error) error {
			if shard != 3 {
				return lost
			}
			return errors.Join(tell([]byte("one")), tell(nil), tell([]byte("three")), lost)
		}
	})
	b := client(t, identity(t, ca, "b"))
	for _, question := range [][]byte{[]byte("this"), bytes.Repeat([]byte("x"), maxRecordsAnswer-len("read "))} {
		got, err := b.Records(t.Context(), "a", p.addr, "read", question)
		if want := append([]byte("read "), question...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	for _, what := range []string{"damaged", "much"} {
		if got, err := b.Records(t.Context(), "a", p.addr, what, nil); err == nil {
			t.Errorf("%s: %d bytes", what, len(got))
		}
	}
	if got, err := b.Records(t.Context(), "a", p.addr, "read", make([]byte, maxRecordsQuestion+1)); err == nil {
		t.Errorf("a large question is answered with %d bytes", len(got))
	}
	var told []string
	collect := func(message []byte) error {
		told = append(told, string(message))
		return nil
	}
	if err := b.FollowRecords(t.Context(), "a", p.addr, 3, collect); !errors.Is(err, io.EOF) || len(told) != 3 || told[0] != "one" || told[1] != "" || told[2] != "three" {
		t.Errorf("%q, %v", told, err)
	}
	if err := b.FollowRecords(t.Context(), "a", p.addr, 4, collect); !errors.Is(err, ErrElsewhere) {
		t.Errorf("a shard of another node: %v", err)
	}
	if err := b.FollowRecords(t.Context(), "a", p.addr, 3, func([]byte) error { return lost }); err != lost {
		t.Errorf("a message that cannot be read: %v", err)
	}
	earlier := start(t, ca, "old", budget.GateOptions{})
	if _, err := b.Records(t.Context(), "old", earlier.addr, "read", nil); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
	if err := b.FollowRecords(t.Context(), "old", earlier.addr, 3, collect); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version is followed: %v", err)
	}
}

// FuzzGrowth: a stream makes the reader take no more memory than it has bytes.
func FuzzGrowth(f *testing.F) {
	f.Add(append(binary.BigEndian.AppendUint32(nil, 3), "one"...))
	f.Add(binary.BigEndian.AppendUint32(nil, maxGrowth+1))
	f.Fuzz(func(t *testing.T, stream []byte) {
		message, err := readGrowth(bytes.NewReader(stream))
		if err == nil && (len(stream) < 4+len(message) || !bytes.Equal(message, stream[4:4+len(message)])) {
			t.Errorf("%x begins with %x", stream, message)
		}
		if err != nil && len(message) > 0 {
			t.Error("a damaged message is returned")
		}
	})
}

// TestRecordsImpatient: when a node does not answer in the short time that there is for a view
// of the cluster, other questions to it go on.
func TestRecordsImpatient(t *testing.T) {
	for _, view := range []string{"ranges", "share-names"} {
		ca, began, open := newCA(t), make(chan struct{}), make(chan struct{})
		p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
			o.Records = func(ctx context.Context, what string, _ []byte) ([]byte, error) {
				if what == "search" {
					close(began)
				}
				select {
				case <-open:
					return []byte(what), nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		})
		b := client(t, identity(t, ca, "b"))
		found := make(chan error, 1)
		go func() {
			_, err := b.Records(t.Context(), "a", p.addr, "search", nil)
			found <- err
		}()
		select {
		case <-began:
		case err := <-found:
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Records(short, "a", p.addr, view, nil); err == nil {
			t.Errorf("%s: answered", view)
		}
		close(open)
		if err := <-found; err != nil {
			t.Errorf("a search, while %s was not answered: %v", view, err)
		}
	}
}
