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

// spanHistory is history with transactions that span shards, as version 2 wrote them.
func spanHistory() []commitlog.Command {
	decided := func(how ending, next, last Producer) *verdict {
		return &verdict{ending: how, next: next, last: last, timeout: 60_000}
	}
	all := append(history(),
		encodeSpan("b", 1_700_000_000_010, 1, []state.Place{b0}, "h"),
		encodeSpan("c", 1_700_000_000_011, 1, []state.Place{a1}),
		encodeDecide("c", 1_700_000_000_012, decided(ending{producer: Producer{3, 3}, commit: true}, Producer{3, 3}, Producer{3, 2}), []state.Place{a1}, []string{"g"}),
		encodeInit("d", 1_700_000_000_013, Producer{6, 0}, NoProducer, 60_000))
	for i, how := range []ending{{producer: Producer{6, 0}}, {producer: Producer{6, 0}, commit: true}, {producer: Producer{6, 1}, init: true}} {
		all = append(all,
			encodeSpan("d", 1_700_000_000_014, uint64(i+1), nil, "i"),
			encodeDecide("d", 1_700_000_000_015, decided(how, Producer{6, int16(i)}, NoProducer), nil, []string{"i"}),
			encodeComplete("d", 1_700_000_000_016))
	}
	return all
}

func replay(t testing.TB) *Coordinator { return replayOf(t, history()) }

func replayOf(t testing.TB, entries []commitlog.Command) *Coordinator {
	c := New(Options{})
	for _, e := range entries {
		if err := c.Apply(e.Kind, e.Body); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// What each version wrote is read for ever, and written by no other name.
func TestGolden(t *testing.T) {
	for file, entries := range map[string][]commitlog.Command{"testdata/v1.txt": history(), "testdata/v2.txt": spanHistory()} {
		var b strings.Builder
		for _, e := range entries {
			b.WriteString(hex.EncodeToString([]byte{byte(e.Kind)}) + " " + hex.EncodeToString(e.Body) + "\n")
		}
		b.WriteString("snapshot " + hex.EncodeToString(replayOf(t, entries).Snapshot()) + "\n")
		want, err := os.ReadFile(file)
		if err != nil || string(want) != b.String() {
			t.Errorf("%s: %v; now it is\n%s", file, err, b.String())
		}
	}
	c := replayOf(t, spanHistory())
	for name, want := range map[string]State{"b": Ongoing, "c": PrepareCommit, "d": Empty} {
		if d, err := c.describe(name); err != nil || d.State != want {
			t.Errorf("%s: %+v, %v; want %s", name, d, err, want)
		}
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
	for _, entries := range [][]commitlog.Command{history(), spanHistory()} {
		restores(t, entries)
	}
}

func restores(t *testing.T, entries []commitlog.Command) {
	first := replayOf(t, entries)
	body := first.Snapshot()
	c := replayOf(t, entries)
	if err := c.Restore(body); err != nil || !bytes.Equal(c.Snapshot(), body) || len(c.open) != len(first.open) || len(c.prepared) != len(first.prepared) {
		t.Errorf("restore: %v, %d open, %d decided", err, len(c.open), len(c.prepared))
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
	for _, e := range spanHistory() {
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

		"a number twice":           encodeSpan("d", 1, 3, nil),
		"a number left out":        encodeSpan("d", 1, 5, nil),
		"an add behind a decision": encodeAdd("c", 1, []state.Place{a0}),
		"an end behind a decision": encodeEnd("c", 1, true, Producer{3, 4}, NoProducer),
		"an init behind one":       encodeInit("c", 1, Producer{3, 4}, NoProducer, 1),
		"a decision without span":  encodeDecide("a", 1, &verdict{ending: ending{producer: Producer{1, 1}}, next: Producer{1, 1}, last: NoProducer}, nil, nil),
		"completion without one":   encodeComplete("b", 1),
	} {
		if err := replayOf(t, spanHistory()).Apply(e.Kind, e.Body); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte{})
	f.Add(replay(f).Snapshot())
	f.Add(replayOf(f, spanHistory()).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) { strict(t, body) })
}

func FuzzApply(f *testing.F) {
	for _, e := range spanHistory() {
		f.Add(e.Kind, e.Body)
	}
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		c := replayOf(t, spanHistory())
		if err := c.Apply(kind, body); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		strict(t, c.Snapshot())
	})
}
