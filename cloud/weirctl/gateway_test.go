package main

import (
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
)

// shown runs weirctl and returns what it prints, with runs of spaces as one.
func shown(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	if code := run(args, nil, strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatalf("%v: %d\n%s", args, code, &stderr)
	}
	var lines []string
	for line := range strings.Lines(stdout.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// TestGateways: one that is connected, one that is away, and one that has only joined.
func TestGateways(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	dead := uint64(7)
	connected := console.Gateway{ID: "a", State: "connected", Connected: true, Known: true, Since: at, LastContact: at, Address: "192.0.2.1:5", Software: "e 1",
		Buffered: 3, Bytes: 5_000_000, AgeMS: 1500, Expires: at}
	all := serve(t, 200, []console.Gateway{connected,
		{ID: "b", State: "away", Known: true, LastContact: at, Buffered: 9, Bytes: 100, AgeMS: 90_061_000, Lost: 4, Expires: at, Allow: []string{"x"}},
		{ID: "c", State: "away", LastContact: at, Expires: at, Revoked: true}})
	want := "GATEWAY STATE LAST CONTACT BUFFERED OLDEST LOST SOFTWARE ADDRESS CERTIFICATE UNTIL TOPICS\n" +
		"a connected now 3 (5 MB) 1.5s 0 e 1 192.0.2.1:5 2026-01-02 all\n" +
		"b away 2026-01-02 03:04:05 9 (100 B) 25h1m1s 4 - - 2026-01-02 x\n" +
		"c away 2026-01-02 03:04:05 - - 0 - - 2026-01-02 all"
	if got := shown(t, "gateways", "--cloud", all.URL); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	one := serve(t, 200, console.GatewayDetail{Gateway: connected,
		Figures:  measure.Figures{DeadLetters: &dead, Lanes: []measure.LaneStatus{{Lane: "live", Buffered: 3, Oldest: at}}},
		Streams:  []console.StreamStatus{{Buffer: "ff", Lane: "live", Marks: []console.StreamMark{{Topic: "t", Partition: 2, Last: 77}}}},
		Refusals: []console.Refusal{{Last: at, Times: 5, Topic: "secret", Reason: "not-allowed", Text: "no"}}})
	got := shown(t, "gateways", "a", "--cloud", one.URL)
	for _, want := range []string{"gateway a\n", "state connected since 2026-01-02 03:04:05\n", "dead letters 7\n", "disk free -\n", "may write to all\n",
		"lane live 3 buffered, oldest of 2026-01-02 03:04:05\n", "\nff live t 2 77\n", "\n2026-01-02 03:04:05 5 secret not-allowed no"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if got := shown(t, "gateways", "a", "--cloud", one.URL, "-o", "json"); !strings.Contains(got, `"dead_letters": 7`) || strings.Contains(got, "free_bytes") {
		t.Error(got)
	}
}
