package broker

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

// shown is what /metrics shows that begins with one of the prefixes, a line each.
func shown(b *Broker, prefixes ...string) []string {
	var out bytes.Buffer
	b.o.Metrics.WritePrometheus(&out)
	var lines []string
	for line := range strings.Lines(out.String()) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

// lagging checks the lags that are shown, each as group, topic, records.
func lagging(t *testing.T, b *Broker, when string, want ...string) {
	t.Helper()
	for i, w := range want {
		f := strings.Fields(w)
		want[i] = fmt.Sprintf(`weir_group_lag_records{group="%s",topic="%s"} %s`, f[0], f[1], f[2])
	}
	want = append(want, "weir_group_lag_omitted_pairs 0")
	if got := shown(b, "weir_group_lag_"); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", when, got, want)
	}
}

// commit stores the offsets of partitions 0, 1, …
func commit(t testing.TB, b *Broker, name string, topic Topic, offsets ...int64) {
	t.Helper()
	groups, err := b.Groups("g")
	if err != nil {
		t.Fatal(err)
	}
	r := group.CommitRequest{Group: name, Generation: -1}
	for i, o := range offsets {
		r.Offsets = append(r.Offsets, group.Offset{Partition: group.Partition{Topic: topic.ID, Index: int32(i)}, Offset: o})
	}
	if _, err := groups.Commit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func create(t testing.TB, b *Broker, name string, partitions int32) Topic {
	t.Helper()
	topic, err := b.CreateTopic(t.Context(), name, partitions, nil)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// write appends records of one batch each.
func write(t *testing.T, b *Broker, topic Topic, partition int32, n int) {
	t.Helper()
	for range n {
		if _, err := appendTo(b, Append{Topic: topic.ID, Partition: partition, Batch: batch(t, 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLag(t *testing.T) {
	bucket := mem.New()
	b := newBroker(Options{})
	lead(t, b, bucket)
	lagging(t, b, "without groups")
	x, y := create(t, b, "x", 3), create(t, b, "y", 1)
	commit(t, b, "one", x, 0, 0)
	lagging(t, b, "without records", "one x 0")
	write(t, b, x, 0, 5)
	write(t, b, x, 1, 2)
	write(t, b, x, 2, 1) // a topic in which no group has committed
	write(t, b, y, 0, 3)
	commit(t, b, "two", x, 5)
	commit(t, b, "two", y, 1)
	lagging(t, b, "records", "one x 7", "two x 0", "two y 2")
	commit(t, b, "one", x, 4)
	commit(t, b, "two", y, 99) // beyond the end
	lagging(t, b, "commits", "one x 3", "two x 0", "two y 0")
	write(t, b, x, 0, 1)
	lagging(t, b, "a record", "one x 4", "two x 1", "two y 0")

	if err := b.DeleteTopic(t.Context(), x.ID); err != nil {
		t.Fatal(err)
	}
	lagging(t, b, "a topic is gone", "two y 0")
	commit(t, b, "one", x, 1) // the client does not know that the topic was deleted
	lagging(t, b, "an offset of a topic that is gone", "two y 0")
	again := create(t, b, "x", 3)
	lagging(t, b, "the topic is back", "two y 0")
	write(t, b, again, 0, 2)
	commit(t, b, "one", again, 0)
	lagging(t, b, "and read", "one x 2", "two y 0")

	groups, _ := b.Groups("g")
	if err := groups.Delete(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	lagging(t, b, "a group is gone", "one x 2")
}

// What an owner shows is gone with the shard; the next one goes on with it.
func TestMetricsOfTheOwner(t *testing.T) {
	bucket := mem.New()
	first, second := newBroker(Options{}), newBroker(Options{})
	var of = []string{"weir_group", "weir_transactions_open"}
	standsBy := func(b *Broker, when string) {
		t.Helper()
		if got := shown(b, of...); len(got) != 0 {
			t.Errorf("%s: %q", when, got)
		}
		if got := shown(b, "weir_transactions_total"); len(got) != 3 {
			t.Errorf("%s, what it has counted: %q", when, got)
		}
	}
	owns := func(b *Broker, when string, lag, open int) {
		t.Helper()
		want := []string{`weir_groups{state="Empty"} 1`, `weir_groups{state="PreparingRebalance"} 0`, `weir_groups{state="CompletingRebalance"} 0`,
			`weir_groups{state="Stable"} 0`, `weir_groups{state="Reconciling"} 0`, "weir_group_members 0",
			fmt.Sprintf(`weir_group_lag_records{group="g",topic="x"} %d`, lag), "weir_group_lag_omitted_pairs 0", fmt.Sprintf("weir_transactions_open %d", open)}
		if got := shown(b, of...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	standsBy(first, "before it leads")
	log := lead(t, first, bucket)
	x := create(t, first, "x", 1)
	write(t, first, x, 0, 3)
	commit(t, first, "g", x, 1)
	txns, _ := first.Transactions("tx")
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: "open", Timeout: 10 * time.Minute})
	if err == nil {
		err = txns.AddPartitions(t.Context(), "open", p, []Place{{Topic: x.ID}})
	}
	if err != nil {
		t.Fatal(err)
	}
	owns(first, "leading", 2, 1)
	first.Doubt(0, true)
	standsBy(first, "in doubt")
	first.Doubt(0, false)
	owns(first, "sure again", 2, 1)

	lead(t, second, bucket) // which fences the first, that may not know yet
	write(t, second, x, 0, 1)
	if err := log.Confirm(t.Context()); !errors.Is(err, commitlog.ErrFenced) {
		t.Errorf("confirm: %v", err)
	}
	standsBy(first, "fenced")
	first.Follow(0, second.Self(), "c")
	standsBy(first, "following")
	owns(second, "after the takeover", 3, 1)
	commit(t, second, "g", x, 4)
	owns(second, "and a commit", 0, 1)
}

// Only what is furthest behind is shown when there is too much.
func TestFurthest(t *testing.T) {
	all := []lag{{"b", "x", 1}, {"a", "y", 5}, {"a", "x", 1}, {"c", "x", 9}}
	for n, want := range map[int][]lag{
		9: {{"a", "x", 1}, {"a", "y", 5}, {"b", "x", 1}, {"c", "x", 9}},
		4: {{"a", "x", 1}, {"a", "y", 5}, {"b", "x", 1}, {"c", "x", 9}},
		3: {{"a", "x", 1}, {"a", "y", 5}, {"c", "x", 9}},
		1: {{"c", "x", 9}},
	} {
		got, omitted := furthest(slices.Clone(all), n)
		if !slices.Equal(got, want) || omitted != len(all)-len(want) {
			t.Errorf("%d: %v and %d others, want %v", n, got, omitted, want)
		}
	}
}

func TestLagsAreBounded(t *testing.T) {
	b := newBroker(Options{})
	lead(t, b, mem.New())
	x := create(t, b, "x", 1)
	for i := range maxLags + 5 {
		commit(t, b, fmt.Sprintf("g%04d", i), x, 0)
	}
	got := shown(b, "weir_group_lag_")
	if len(got) != maxLags+1 || got[maxLags] != "weir_group_lag_omitted_pairs 5" || !strings.Contains(got[0], "g0000") {
		t.Errorf("%d lines, %s … %s", len(got), got[0], got[len(got)-1])
	}
}

// unlabel reads a label's value as the text format has it.
func unlabel(t *testing.T, value string) string {
	t.Helper()
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '"' || c == '\n':
			t.Errorf("%q ends at %d", value, i)
		case c != '\\':
			out.WriteByte(c)
		default:
			i++
			plain, ok := map[byte]byte{'\\': '\\', '"': '"', 'n': '\n'}[value[i]]
			if !ok {
				t.Errorf("%q has an escape that there is not", value)
			}
			out.WriteByte(plain)
		}
	}
	return out.String()
}

// Whatever a group is called, its label is one, and its own.
func TestLabel(t *testing.T) {
	names := []string{"g", "grüße", `a"b`, `a\b`, `a\`, `{x="y"} 1`, `"`, `""`, `"a\nb"`, "a\nb", "a\x00b", `a\x00b`, `"a\x00b"`, "\xff", `\xff`, "\u0085"}
	seen := make(map[string]string)
	for _, name := range names {
		read := unlabel(t, label(name))
		if other, ok := seen[read]; ok {
			t.Errorf("%q and %q are both %q", name, other, read)
		}
		seen[read] = name
	}
	for plain, as := range map[string]string{"g": "g", "grüße": "grüße", `a"b`: `a\"b`, `a\b`: `a\\b`} {
		if got := label(plain); got != as {
			t.Errorf("%s as %s, want %s", plain, got, as)
		}
	}
	b := newBroker(Options{})
	lead(t, b, mem.New())
	x := create(t, b, "x", 1)
	slices.Sort(names)
	var want []string
	for _, name := range names {
		commit(t, b, name, x, 0)
		want = append(want, fmt.Sprintf(`weir_group_lag_records{group="%s",topic="x"} 0`, label(name)))
	}
	if got := shown(b, "weir_group_lag_records{"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The cost of showing 500 groups that have committed offsets in a tenth each of
// 5,000 partitions of 50 topics.
func BenchmarkScrape(b *testing.B) {
	o := newBroker(Options{})
	lead(b, o, mem.New())
	topics := make([]Topic, 50)
	for i := range topics {
		topics[i] = create(b, o, fmt.Sprint("t", i), 100)
	}
	for i := range 500 {
		for j := range 5 {
			commit(b, o, fmt.Sprint("g", i), topics[(i+j)%len(topics)], make([]int64, 100)...)
		}
	}
	for b.Loop() {
		if n := len(shown(o, "weir_group_lag_records")); n != maxLags {
			b.Fatalf("%d lines", n)
		}
	}
}
