package measure

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// shown is what the metrics show of the sources that begins with one of the prefixes, a
// line each.
func shown(t testing.TB, s Sources, prefixes ...string) []string {
	t.Helper()
	r := New()
	r.SetSources(s)
	var out bytes.Buffer
	r.WritePrometheus(&out)
	var lines []string
	for line := range strings.Lines(out.String()) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func coordination(c broker.Coordination) func() (broker.Coordination, error) {
	return func() (broker.Coordination, error) { return c, nil }
}

// TestCoordination: the owner shows its groups and transactions, and asks for them once;
// another node shows nothing.
func TestCoordination(t *testing.T) {
	of := []string{"weir_group", "weir_share_group", "weir_transactions_open"}
	if got := shown(t, Sources{}, of...); len(got) != 0 {
		t.Errorf("without a source: %q", got)
	}
	if got := shown(t, Sources{Coordination: func() (broker.Coordination, error) { return broker.Coordination{Transactions: 1}, broker.ErrNotOwner }}, of...); len(got) != 0 {
		t.Errorf("not the owner: %q", got)
	}
	asked := 0
	got := shown(t, Sources{Coordination: func() (broker.Coordination, error) {
		asked++
		return broker.Coordination{Transactions: 3, Lags: []broker.Lag{{Group: "g", Topic: "y", Records: 5, Unknown: 1}, {Group: "g", Topic: "x", Records: 7}},
			Sharing: []broker.Sharing{{Lag: broker.Lag{Group: "s", Topic: "x", Records: 9}, Acquired: 4, Accepted: 3, Rejected: 2, Archived: 1, Copied: 5, Uncopied: 6}},
			Groups:  []group.Listing{{Group: "g", State: group.Stable, Members: 2}, {Group: "h", State: group.Stable, Members: 3}, {Group: "i", State: group.Empty}}}, nil
	}}, of...)
	want := []string{`weir_groups{state="Empty"} 1`, `weir_groups{state="PreparingRebalance"} 0`, `weir_groups{state="CompletingRebalance"} 0`,
		`weir_groups{state="Stable"} 2`, `weir_groups{state="Reconciling"} 0`, "weir_group_members 5",
		`weir_group_lag_records{group="g",topic="x"} 7`, "weir_group_lag_omitted_pairs 0", "weir_group_lag_unknown_pairs 1",
		`weir_share_group_lag_records{group="s",topic="x"} 9`, `weir_share_group_acquired_records{group="s",topic="x"} 4`,
		`weir_share_group_records_total{group="s",topic="x",end="accepted"} 3`, `weir_share_group_records_total{group="s",topic="x",end="rejected"} 2`,
		`weir_share_group_records_total{group="s",topic="x",end="archived"} 1`,
		`weir_share_group_dead_letters_total{group="s",topic="x",copied="true"} 5`, `weir_share_group_dead_letters_total{group="s",topic="x",copied="false"} 6`, "weir_share_group_omitted_pairs 0", "weir_transactions_open 3"}
	if !slices.Equal(got, want) || asked != 1 {
		t.Errorf("%q, want %q; asked %d times", got, want, asked)
	}
}

// Only what is furthest behind is shown when there is too much.
func TestFurthest(t *testing.T) {
	lag := func(group, topic string, records uint64) broker.Lag {
		return broker.Lag{Group: group, Topic: topic, Records: records}
	}
	all := []broker.Lag{lag("b", "x", 1), lag("a", "y", 5), lag("a", "x", 1), lag("c", "x", 9)}
	for n, want := range map[int][]broker.Lag{
		9: {lag("a", "x", 1), lag("a", "y", 5), lag("b", "x", 1), lag("c", "x", 9)},
		4: {lag("a", "x", 1), lag("a", "y", 5), lag("b", "x", 1), lag("c", "x", 9)},
		3: {lag("a", "x", 1), lag("a", "y", 5), lag("c", "x", 9)},
		1: {lag("c", "x", 9)},
	} {
		got, omitted := furthest(slices.Clone(all), n, func(l *broker.Lag) *broker.Lag { return l })
		if !slices.Equal(got, want) || omitted != len(all)-len(want) {
			t.Errorf("%d: %v and %d others, want %v", n, got, omitted, want)
		}
	}
}

func TestLagsAreBounded(t *testing.T) {
	var known broker.Coordination
	for i := range maxLags + 5 {
		known.Lags = append(known.Lags, broker.Lag{Group: fmt.Sprintf("g%04d", i), Topic: "x"})
	}
	got := shown(t, Sources{Coordination: coordination(known)}, "weir_group_lag_")
	if len(got) != maxLags+2 || got[maxLags] != "weir_group_lag_omitted_pairs 5" || !strings.Contains(got[0], "g0000") {
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
	slices.Sort(names)
	var known broker.Coordination
	var want []string
	for _, name := range names {
		known.Lags = append(known.Lags, broker.Lag{Group: name, Topic: "x"})
		want = append(want, fmt.Sprintf(`weir_group_lag_records{group="%s",topic="x"} 0`, label(name)))
	}
	if got := shown(t, Sources{Coordination: coordination(known)}, "weir_group_lag_records{"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
