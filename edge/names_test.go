package edge

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// TestNames: messages may name a limited number of topics, the same ones after a restart. One
// line is logged for the rest.
func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics")
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	n := openNames(path, 2, log)
	for i, want := range []bool{true, true, false, false} {
		if got := n.admit(fmt.Sprint("t", i)); got != want {
			t.Errorf("topic %d: %v", i, got)
		}
	}
	if !n.admit("t0") || !n.admit(Unrouted) {
		t.Error("a topic that counts, or unrouted, is kept out")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(lines.String(), "\n") != 1 || !strings.Contains(lines.String(), "max_topics=2 topic=t2") {
		t.Errorf("said\n%s", &lines)
	}
	n = openNames(path, 2, log)
	if n.admit("t3") || !n.admit("t1") {
		t.Error("other topics count after a restart")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	n = openNames(path, 3, log)
	if !n.admit("t3") || n.admit("t4") {
		t.Error("a limit that was raised")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
}

// TestNamesWithoutFile: no message is refused if the file is damaged or cannot be written.
func TestNamesWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics")
	if err := os.WriteFile(path, append(bytes.Repeat([]byte{0}, 100<<10), "\nno such/name\nok\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	n := openNames(path, 1, quiet)
	if !n.admit("a") || n.admit("b") {
		t.Error("a damaged file")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	n = openNames(t.TempDir(), 1, quiet) // a folder is no file
	if first, again := n.admit("a"), n.admit("a"); !first || !again || n.admit("b") {
		t.Error("without a file")
	}
	if err := errors.Join(n.close(), n.close()); err != nil {
		t.Fatal(err)
	}
}

// TestNamesAlike: of two names that Kafka takes for the same, the first counts.
func TestNamesAlike(t *testing.T) {
	path := filepath.Join(t.TempDir(), "topics")
	var lines bytes.Buffer
	n := openNames(path, 10, slog.New(slog.NewTextHandler(&lines, nil)))
	if !n.admit("a.b_c") || n.admit("a_b_c") || n.admit("a_b.c") || !n.admit("a.b_c") || !n.admit("a.bc") {
		t.Error("who comes first does not count")
	}
	if strings.Count(lines.String(), "\n") != 1 || !strings.Contains(lines.String(), "topic=a_b_c other=a.b_c") {
		t.Errorf("said\n%s", &lines)
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	n = openNames(path, 10, slog.New(slog.DiscardHandler))
	if n.admit("a_b_c") || !n.admit("a.b_c") {
		t.Error("another one counts after a restart")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
}

// TestNamesRefused: a topic that the cloud has refused for want of room is not named
// again; one that it has refused for another reason is.
func TestNamesRefused(t *testing.T) {
	n := openNames(filepath.Join(t.TempDir(), "topics"), 10, slog.New(slog.DiscardHandler))
	n.admit("a")
	n.refuse([]sender.Item{{Topic: "a"}, {Topic: "b"}}, "not-allowed: gateway may not write there: too many topics: the cluster has 4")
	n.refuse([]sender.Item{{Topic: "d"}}, "not-allowed: gateway may not write there: no topic can have this name: it collides with d_")
	n.refuse([]sender.Item{{Topic: "c"}}, "not-allowed: gateway may not write there: topic c")
	if n.admit("a") || n.admit("b") || n.admit("d") || !n.admit("c") {
		t.Error("what was refused is not what is kept out")
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
}

// TestTooManyNames: beyond the limit messages go to unrouted, with their key. A topic whose
// name is fixed in a route does not count.
func TestTooManyNames(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	b.names.limit = 1
	all := messages("one/a", "two/b", "alarm/c", "one/d")
	batch, places, errs := accept(b, all)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if err := store(b, batch); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"one one/a", "unrouted two/b", "alarms alarm/c", "one one/d"} {
		items, err := b.log.Read(places[i].buffer, weir.Lane(places[i].lane), places[i].seq)
		if err != nil {
			t.Fatal(err)
		}
		if got := items[0].Record.Topic + " " + string(items[0].Record.Key); got != want {
			t.Errorf("%s went to %s, want %s", all[i].Topic, got, want)
		}
	}
	if n := b.count.capped.Get(); n != 1 {
		t.Errorf("%d counted", n)
	}
}
