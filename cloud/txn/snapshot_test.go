package txn

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// history is one entry of each kind and more, as version 1 wrote them.
func history() []commitlog.Command {
	offset := func(p int32, at int64, metadata string) group.Offset {
		return group.Offset{Partition: group.Partition{Topic: topicA, Index: p}, Offset: at, LeaderEpoch: 3, Metadata: metadata}
	}
	return []commitlog.Command{
		encodeInit("a", 1_700_000_000_000, Producer{1 << 48, 0}, NoProducer, 60_000),
		encodeInit("b", 1_700_000_000_001, Producer{2, 32766}, Producer{2, 32765}, 900_000),
		encodeInit("c", 1_700_000_000_002, Producer{3, 1}, NoProducer, 1),
		encodeInit("idle", 1, Producer{4, 0}, NoProducer, 1),
		encodeAdd("a", 1_700_000_000_003, []state.Place{a1, b0, a0}, "g", "h"),
		encodeStage("a", 1_700_000_000_004, "g", []group.Offset{offset(0, 5, "m"), offset(300, 1<<40, "")}),
		encodeStage("a", 1_700_000_000_005, "i", []group.Offset{offset(1, 6, "")}),
		encodeAdd("b", 1_700_000_000_006, []state.Place{a0}),
		encodeEnd("b", 1_700_000_000_007, true, Producer{5, 0}, Producer{2, 32766}),
		encodeEnd("c", 1_700_000_000_008, false, Producer{3, 2}, Producer{3, 1}),
		encodeForget([]string{"idle", "never"}),
	}
}

func replay(t testing.TB) *Coordinator {
	c := New(Options{})
	for _, e := range history() {
		if err := c.Apply(e.Kind, e.Body); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// What version 1 wrote is read for ever, and written by no other name.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, e := range history() {
		b.WriteString(hex.EncodeToString([]byte{byte(e.Kind)}) + " " + hex.EncodeToString(e.Body) + "\n")
	}
	c := replay(t)
	b.WriteString("snapshot " + hex.EncodeToString(c.Snapshot()) + "\n")
	want, err := os.ReadFile("testdata/v1.txt")
	if err != nil || string(want) != b.String() {
		t.Errorf("%v; now it is\n%s", err, b.String())
	}
	d, err := c.describe("a")
	if err != nil || d.State != Ongoing || !slices.Equal(d.Places, []state.Place{a0, a1, b0}) || !slices.Equal(d.Groups, []string{"g", "h", "i"}) ||
		d.Timeout != time.Minute || d.Started.UnixMilli() != 1_700_000_000_003 {
		t.Errorf("%+v, %v", d, err)
	}
}

// describe asks a coordinator that does not serve.
func (c *Coordinator) describe(id string) (Description, error) {
	c.serving = true
	defer func() { c.serving = false }()
	return c.Describe(id)
}

func TestRestore(t *testing.T) {
	body := replay(t).Snapshot()
	c := replay(t)
	if err := c.Restore(body); err != nil || !bytes.Equal(c.Snapshot(), body) || len(c.open) != 1 {
		t.Errorf("restore: %v, %d open", err, len(c.open))
	}
	if a := c.ids["a"]; a.size != replay(t).ids["a"].size || a.size != 3*placeSize+groupSize("g")*3+3*48+1 {
		t.Errorf("the end of a takes %d bytes", a.size)
	}
	for n := 1; n < len(body); n++ {
		if err := New(Options{}).Restore(body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for i := range body {
		for bit := range 8 {
			damaged := slices.Clone(body)
			damaged[i] ^= 1 << bit
			strict(t, damaged)
		}
	}
	if err := c.Restore(append(slices.Clone(body), 0)); !errors.Is(err, ErrCorrupt) || !bytes.Equal(c.Snapshot(), body) {
		t.Errorf("a byte behind: %v", err)
	}
	if err := c.Restore(nil); err != nil || len(c.ids)+len(c.open) != 0 {
		t.Errorf("restore nothing: %v", err)
	}
}

// strict fails if a snapshot is restored that is not canonical.
func strict(t *testing.T, body []byte) {
	t.Helper()
	c := New(Options{})
	if err := c.Restore(body); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	} else if len(body) > 0 && !bytes.Equal(c.Snapshot(), body) {
		t.Fatalf("%x is restored and becomes %x", body, c.Snapshot())
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, e := range history() {
		for n := range e.Body {
			if err := replay(t).Apply(e.Kind, e.Body[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("entry of kind %d cut at %d: %v", e.Kind, n, err)
			}
		}
		if err := replay(t).Apply(e.Kind, append(slices.Clone(e.Body), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("entry of kind %d with a byte behind: %v", e.Kind, err)
		}
	}
	for what, e := range map[string]commitlog.Command{
		"a kind":        {Kind: 139, Body: []byte{bodyVersion}},
		"add to nobody": encodeAdd("x", 1, []state.Place{a0}),
		"stage for":     encodeStage("x", 1, "g", nil),
		"end of nobody": encodeEnd("x", 1, true, Producer{1, 1}, NoProducer),
		"no producer":   encodeInit("a", 1, NoProducer, NoProducer, 1),
	} {
		if err := replay(t).Apply(e.Kind, e.Body); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add(replay(f).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) { strict(t, body) })
}

func FuzzApply(f *testing.F) {
	for _, e := range history() {
		f.Add(e.Kind, e.Body)
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		c := replay(t)
		if err := c.Apply(kind, body); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		strict(t, c.Snapshot())
	})
}
