package listappend

import (
	"reflect"
	"testing"
)

func app(list int32, offset int64, value Value) Append { return Append{list, Element{offset, value}} }

// TestCheck: each anomaly is found, and nothing else.
func TestCheck(t *testing.T) {
	two := []Append{app(0, 0, 1), app(1, 0, 2)}
	both := Lists{0: {{0, 1}}, 1: {{0, 2}}}
	for name, c := range map[string]struct {
		all   []Transaction
		final Lists
		want  string // the field with a finding
	}{
		"committed":         {[]Transaction{{Appends: two, Outcome: Committed}}, both, ""},
		"aborted":           {[]Transaction{{Appends: two, Outcome: Aborted}}, Lists{}, ""},
		"unknown, there":    {[]Transaction{{Appends: two, Outcome: Unknown}}, both, ""},
		"unknown, not":      {[]Transaction{{Appends: two, Outcome: Unknown}}, Lists{}, ""},
		"never acked":       {nil, both, ""},
		"unseen":            {[]Transaction{{Appends: two, Outcome: Committed}}, Lists{0: {{0, 1}}}, "Unseen"},
		"lost":              {[]Transaction{{Appends: two, Outcome: Committed}}, Lists{0: {{0, 1}}, 1: {{3, 9}}}, "Lost"},
		"torn":              {[]Transaction{{Appends: two, Outcome: Unknown}}, Lists{0: {{0, 1}}}, "Torn"},
		"aborted but there": {[]Transaction{{Appends: two[:1], Outcome: Aborted}}, Lists{0: {{0, 1}}}, "Dirty"},
		"dirty read":        {[]Transaction{{Appends: two, Outcome: Aborted}, {Reads: two[:1], Outcome: Committed}}, Lists{}, "Dirty"},
		"read and gone":     {[]Transaction{{Reads: two[:1], Outcome: Committed}}, Lists{}, "Lost"},
		"read elsewhere":    {[]Transaction{{Reads: []Append{app(0, 7, 1)}}}, both, "Lost"},
		"twice":             {[]Transaction{{Appends: two, Outcome: Committed}}, Lists{0: {{0, 1}, {1, 1}}, 1: {{0, 2}}}, "Duplicated"},
		"moved":             {[]Transaction{{Appends: two, Outcome: Committed}}, Lists{0: {{4, 1}}, 1: {{0, 2}}}, "Duplicated"},
		"twice, not acked":  {nil, Lists{0: {{0, 1}, {1, 1}}}, "Duplicated"},
		"write cycle": {[]Transaction{{Appends: []Append{app(0, 0, 1), app(1, 1, 2)}, Outcome: Committed}, {Appends: []Append{app(0, 1, 3), app(1, 0, 4)}, Outcome: Committed}},
			Lists{0: {{0, 1}, {1, 3}}, 1: {{0, 4}, {1, 2}}}, "G0"},
		"read cycle": {[]Transaction{{Appends: two[:1], Reads: two[1:], Outcome: Committed}, {Appends: two[1:], Reads: two[:1], Outcome: Committed}}, both, "G1c"},
		"reads in line": {[]Transaction{{Appends: two[:1], Outcome: Committed}, {Appends: two[1:], Reads: two[:1], Outcome: Committed},
			{Reads: two, Outcome: Committed}}, both, ""},
	} {
		r := Check(c.all, c.final)
		v := reflect.ValueOf(r)
		for i := range v.NumField() {
			field := v.Type().Field(i).Name
			if found := v.Field(i).Len() > 0; found != (field == c.want) {
				t.Errorf("%s: %s has %v", name, field, v.Field(i))
			}
		}
		if bad := len(r.Bad()) > 0; bad != (c.want != "" && c.want != "G0") {
			t.Errorf("%s: bad %v", name, r.Bad())
		}
	}
}

func TestCopied(t *testing.T) {
	from := Lists{0: {{0, 1}, {3, 2}}, 1: {{0, 3}}}
	for name, c := range map[string]struct {
		to    Lists
		left  int
		wrong bool
	}{
		"all":       {Lists{0: {{0, 1}, {1, 2}}, 1: {{5, 3}}}, 0, false},
		"not yet":   {Lists{0: {{0, 1}}}, 2, false},
		"twice":     {Lists{0: {{0, 1}, {1, 1}}, 1: {{0, 3}}}, 0, true},
		"left out":  {Lists{0: {{0, 2}}, 1: {{0, 3}}}, 1, true},
		"too many":  {Lists{0: {{0, 1}, {1, 2}}, 1: {{0, 3}, {1, 9}}}, 0, true},
		"not there": {nil, 3, false},
	} {
		if wrong, left := Copied(from, c.to); left != c.left || (len(wrong) > 0) != c.wrong {
			t.Errorf("%s: %v, %d left", name, wrong, left)
		}
	}
}

// TestComponents finds the cycles in a larger graph.
func TestComponents(t *testing.T) {
	g := make(graph)
	for _, e := range [][2]int{{1, 2}, {2, 3}, {3, 1}, {3, 4}, {4, 5}, {5, 4}, {6, 1}, {7, 7}, {5, 8}} {
		g.add(e[0], e[1])
	}
	var cycles [][]int
	for _, group := range components(g) {
		if len(group) > 1 {
			cycles = append(cycles, group)
		}
	}
	if want := [][]int{{4, 5}, {1, 2, 3}}; !reflect.DeepEqual(cycles, want) {
		t.Errorf("%v, want %v", cycles, want)
	}
	long := make(graph)
	for i := range 20_000 {
		long.add(i, (i+1)%20_000)
	}
	if all := components(long); len(all) != 1 {
		t.Errorf("%d components", len(all))
	}
}
