package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

func manyTopics(n int) []state.Topic {
	all := make([]state.Topic, n)
	for i := range all {
		all[i] = state.Topic{ID: weir.TopicID{byte(i >> 8), byte(i), 1}, Name: fmt.Sprintf("topic-%05d", i), Partitions: int32(i%9 + 1), Created: int64(i)}
		if i%3 == 0 {
			all[i].Configs = map[string]string{"cleanup.policy": "compact"}
		}
	}
	return all
}

func example(topics int) *Copy {
	return &Copy{Tag: "boot-1.2.3", Epoch: 7, Cluster: "c", Topics: manyTopics(topics), Users: []byte(`{"users":1}`), Quotas: []byte(`{"limits":[]}`), Settings: []byte(`{"s":[]}`), Offsets: true}
}

// TestCopy: a node gets all that the owner tells, and hears when
// there is nothing new.
func TestCopy(t *testing.T) {
	ca := newCA(t)
	now := example(3*pieceSize + 7)
	var asked []string
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Copy = func(after string) (*Copy, error) {
			asked = append(asked, after)
			if after == now.Tag {
				return &Copy{Tag: after}, nil
			}
			return now, nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	got, err := b.Copy(t.Context(), "a", p.addr, "")
	if err != nil || !reflect.DeepEqual(got, now) {
		t.Fatalf("a copy of %d topics: %v", len(now.Topics), err)
	}
	if got, err := b.Copy(t.Context(), "a", p.addr, now.Tag); got != nil || err != nil {
		t.Errorf("nothing is new: %+v, %v", got, err)
	}
	now = &Copy{Tag: "x y&z", Epoch: 8, Topics: []state.Topic{}} // all topics were deleted, nothing else
	if got, err := b.Copy(t.Context(), "a", p.addr, "boot-1.2.3"); err != nil || !reflect.DeepEqual(got, now) || got.Topics == nil || got.Users != nil {
		t.Errorf("a part: %+v, %v", got, err)
	}
	if got, err := b.Copy(t.Context(), "a", p.addr, "x y&z"); got != nil || err != nil {
		t.Errorf("a tag is not passed on as it is: %+v, %v, asked for %q", got, err, asked)
	}
}

// TestNoCopy: each reason for having none is told.
func TestNoCopy(t *testing.T) {
	ca := newCA(t)
	var err error
	var made *Copy
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) { o.Copy = func(string) (*Copy, error) { return made, err } })
	b := client(t, identity(t, ca, "b"))
	for what, c := range map[string]struct {
		made *Copy
		err  error
		want error
	}{
		"a standby":         {nil, ErrNoCopy, ErrNoCopy},
		"another reason":    {nil, errors.New("no"), ErrNoCopy},
		"too much":          {nil, fmt.Errorf("%w: 10,001 topics", ErrTooLarge), ErrTooLarge},
		"too many topics":   {example(MaxTopics + 1), nil, ErrTooLarge},
		"impossible topics": {&Copy{Tag: "t", Topics: []state.Topic{{Name: "a"}}}, nil, errAnswer},
	} {
		made, err = c.made, c.err
		if got, err := b.Copy(t.Context(), "a", p.addr, ""); got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	earlier := start(t, ca, "old", budget.GateOptions{})
	if _, err := b.Copy(t.Context(), "old", earlier.addr, ""); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}

// TestCopyBody: a body that is cut off anywhere, or of a later version, is no copy;
// members and lines that are not known are left out.
func TestCopyBody(t *testing.T) {
	var out bytes.Buffer
	if err := example(700).encode(&out); err != nil {
		t.Fatal(err)
	}
	body := out.String()
	for n := 0; n < len(body)-1; n += 101 {
		if c, err := decodeCopy(strings.NewReader(body[:n]), maxCopy); err == nil {
			t.Fatalf("%d of %d bytes are taken for a copy: %+v", n, len(body), c)
		}
	}
	if _, err := decodeCopy(strings.NewReader(strings.Replace(body, `"version":1`, `"version":2`, 1)), maxCopy); !errors.Is(err, errAnswer) {
		t.Errorf("a later version: %v", err)
	}
	if _, err := decodeCopy(strings.NewReader(body), int64(len(body)-100)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many bytes: %v", err)
	}
	later := strings.Replace(body, `{"end":true}`, `{"later":[1]}`+"\n"+`{"end":true,"more":1}`, 1)
	later = strings.Replace(later, `"name":"topic-00001"`, `"kind":"x","name":"topic-00001"`, 1)
	if c, err := decodeCopy(strings.NewReader(later), maxCopy); err != nil || !reflect.DeepEqual(c, example(700)) {
		t.Errorf("with members that are not known: %v", err)
	}
}

// TestBehalf: what a client of one node asks for is done by another, for that client.
func TestBehalf(t *testing.T) {
	ca := newCA(t)
	want := manyTopics(1)[0]
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.CreateTopic = func(_ context.Context, b Behalf, name string) (state.Topic, int16) {
			if b != (Behalf{"User:ann", "192.0.2.1"}) || name != want.Name {
				return state.Topic{}, 29
			}
			return want, 0
		}
		o.NewProducerID = func(_ context.Context, b Behalf) (int64, int16) {
			if b.Principal != "User:ann" {
				return 0, 31
			}
			return 1 << 40, 0
		}
	})
	b := client(t, identity(t, ca, "b"))
	ann, bob := Behalf{"User:ann", "192.0.2.1"}, Behalf{"User:bob", "192.0.2.1"}
	if got, code, err := b.CreateTopic(t.Context(), "a", p.addr, ann, want.Name); err != nil || code != 0 || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %d, %v", got, code, err)
	}
	if _, code, err := b.CreateTopic(t.Context(), "a", p.addr, bob, want.Name); err != nil || code != 29 {
		t.Errorf("who may not: %d, %v", code, err)
	}
	if id, code, err := b.NewProducerID(t.Context(), "a", p.addr, ann); err != nil || code != 0 || id != 1<<40 {
		t.Errorf("%d, %d, %v", id, code, err)
	}
	if _, code, err := b.NewProducerID(t.Context(), "a", p.addr, bob); err != nil || code != 31 {
		t.Errorf("who may not: %d, %v", code, err)
	}
	earlier := start(t, ca, "old", budget.GateOptions{})
	if _, _, err := b.CreateTopic(t.Context(), "old", earlier.addr, ann, "x"); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
	if _, _, err := b.NewProducerID(t.Context(), "old", earlier.addr, ann); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("a node of an earlier version: %v", err)
	}
}

func FuzzCopy(f *testing.F) {
	for _, c := range []*Copy{example(3), {Tag: "t", Topics: []state.Topic{}}} {
		var out bytes.Buffer
		if err := c.encode(&out); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := decodeCopy(bytes.NewReader(body), maxCopy)
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := c.encode(&out); err != nil {
			t.Fatal(err)
		}
		again, err := decodeCopy(&out, maxCopy)
		if err != nil || !reflect.DeepEqual(again.Topics, c.Topics) || again.Tag != c.Tag {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}
