package properties

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLossTable: the README has the table of losses as it is, and each loss that is
// counted is in it.
func TestLossTable(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, got, ok := strings.Cut(string(text), "| way | what | becomes | counted as |\n|---|---|---|---|\n")
	if !ok {
		t.Fatal("the README has no table of losses")
	}
	var want strings.Builder
	var counted []Loss
	for _, row := range lossTable {
		var ways []string
		for _, w := range row.ways {
			ways = append(ways, string(w))
		}
		as := ""
		if row.counted != 0 {
			as = "`" + row.counted.String() + "`"
			counted = append(counted, row.counted)
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", strings.Join(ways, ", "), row.what, row.becomes, as)
	}
	if got != want.String() {
		t.Errorf("the README has\n%s\nwant\n%s", got, want.String())
	}
	for _, l := range Losses() {
		if !slices.Contains(counted, l) {
			t.Errorf("%v is not in the table", l)
		}
	}
}
