package fleet

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// members puts gateways into the log.
func members(t *testing.T, j *machinetest.Log, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := j.Propose(t.Context(), kindJoined, fmt.Appendf(nil, `{"id":%q,"joined":"2026-01-01T00:00:00Z"}`, id)); err != nil {
			t.Fatal(err)
		}
	}
}

func contactIn(t *testing.T, f *Fleet, id string) (c Contact, settled uint64) {
	t.Helper()
	g, err := f.Gateway(id)
	if err != nil {
		t.Fatal(err)
	}
	return f.Contact(g)
}

// TestContacts: the log has how a gateway was when it was there last, at most one entry
// in five minutes; who takes over knows it.
func TestContacts(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	o := Options{Now: func() time.Time { return now }}
	f, j := start(t, o)
	members(t, j, "a", "b")
	written := len(j.Entries)
	save := func(what string, want int) {
		t.Helper()
		if err := f.SaveContacts(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(j.Entries) - written; got != want {
			t.Errorf("%s: %d entries, want %d", what, got, want)
		}
		written = len(j.Entries)
	}
	save("nothing is known", 0)
	if c, _ := contactIn(t, f, "a"); c != (Contact{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}) {
		t.Errorf("joined only: %+v", c)
	}

	first := Contact{At: now.UnixMilli(), Address: "192.0.2.1:7", Software: "weir-edge 1", Records: 5, Bytes: 900, Oldest: now.UnixMilli() - 60_000}
	f.Heard("a", first)
	f.Heard("nobody", first)
	save("the first contact", 1)
	if c, _ := contactIn(t, recovered(t, j, o), "a"); c != first {
		t.Errorf("who takes over knows %+v, want %+v", c, first)
	}
	now = now.Add(4 * time.Minute)
	gone := Contact{At: now.UnixMilli(), Address: "192.0.2.1:7", Software: "weir-edge 1", Records: 9, Bytes: 1900}
	f.Heard("a", gone)
	f.Heard("a", first) // comes late
	f.Lost("a", 3)
	f.Lost("nobody", 3)
	save("too soon", 0)
	gone.Lost = 3
	if c, settled := contactIn(t, f, "a"); c != gone || settled != 0 {
		t.Errorf("this owner knows %+v and %d settled losses, want %+v", c, settled, gone)
	}
	now = now.Add(time.Minute)
	save("five minutes later", 1)
	now = now.Add(time.Hour)
	save("nothing is new", 0)
	next := recovered(t, j, o)
	if c, settled := contactIn(t, next, "a"); c != gone || settled != 3 {
		t.Errorf("who takes over knows %+v and %d settled losses, want %+v", c, settled, gone)
	}
	// It takes over, and gives no interval away.
	j.Machines = append(j.Machines, next)
	next.Serve(j)
	f = next
	f.Lost("a", 1)
	f.Lost("b", 4)
	save("two gateways, one entry", 1)
	f.Lost("a", 1)
	save("too soon after a takeover", 0)
	if c, settled := contactIn(t, f, "b"); c.Lost != 4 || settled != 4 {
		t.Errorf("%+v, %d", c, settled)
	}
	if c, settled := contactIn(t, f, "a"); c.Lost != 5 || settled != 4 {
		t.Errorf("%+v, %d", c, settled)
	}
}

// TestIdleContacts: what a fleet of 10,000 gateways that do nothing costs, is an entry
// a minute, and not a large one.
func TestIdleContacts(t *testing.T) {
	const gateways = 10_000
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f, j := start(t, Options{Now: func() time.Time { return now }})
	var ids []string
	for i := range gateways {
		ids = append(ids, fmt.Sprint("gateway-", i))
	}
	members(t, j, ids...)
	before := len(j.Entries)
	const minutes = 20
	for range minutes {
		now = now.Add(time.Minute)
		for i, id := range ids {
			f.Heard(id, Contact{At: now.UnixMilli(), Address: fmt.Sprint("192.0.2.1:", i), Software: "weir-edge v1.2.3"})
		}
		if err := f.SaveContacts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	size, largest := 0, 0
	for _, entry := range j.Entries[before:] {
		body := entry.Body
		size, largest = size+len(body), max(largest, len(body))
	}
	if n := len(j.Entries) - before; n > minutes || n < minutes/5 {
		t.Errorf("%d entries in %d minutes", n, minutes)
	}
	if largest > contactEntry+1000 || size > minutes*200_000 {
		t.Errorf("%d bytes in %d minutes, the largest entry has %d", size, minutes, largest)
	}
	for _, id := range ids {
		if g, _ := f.Gateway(id); g.Seen == nil || now.UnixMilli()-g.Seen.At > 6*time.Minute.Milliseconds() || g.Seen.Software != "weir-edge v1.2.3" {
			t.Fatalf("%s: %+v", id, g.Seen)
		}
	}
}

// TestContactsBelowLevel: a log that older programs may read gets no such entry; the
// owner knows what it has heard itself.
func TestContactsBelowLevel(t *testing.T) {
	f, j := start(t, Options{})
	j.FormatLevel = 1
	members(t, j, "a")
	before := len(j.Entries)
	f.Heard("a", Contact{At: 7, Address: "x"})
	f.Lost("a", 2)
	if err := f.SaveContacts(t.Context()); err != nil || len(j.Entries) != before {
		t.Errorf("%v, %d entries", err, len(j.Entries)-before)
	}
	if c, settled := contactIn(t, f, "a"); c != (Contact{At: 7, Address: "x", Lost: 2}) || settled != 2 {
		t.Errorf("%+v, %d", c, settled)
	}
}

// TestContactsAfterAWrongClock: what a node whose clock was ahead has written holds up
// nobody.
func TestContactsAfterAWrongClock(t *testing.T) {
	now := time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
	o := Options{Now: func() time.Time { return now }}
	f, j := start(t, o)
	members(t, j, "a")
	f.Heard("a", Contact{At: now.UnixMilli(), Address: "x"})
	if err := f.SaveContacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	next := recovered(t, j, o)
	j.Machines = []state.Machine{next}
	next.Serve(j)
	want := Contact{At: now.UnixMilli(), Address: "y"}
	next.Heard("a", want)
	if c, _ := contactIn(t, next, "a"); c != want {
		t.Errorf("%+v", c)
	}
	if err := next.SaveContacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c, _ := contactIn(t, recovered(t, j, o), "a"); c != want {
		t.Errorf("who takes over knows %+v", c)
	}
}

// TestContactIsBounded: a gateway's words take little of the log.
func TestContactIsBounded(t *testing.T) {
	f, j := start(t, Options{})
	members(t, j, "a")
	f.Heard("a", Contact{At: 1, Software: strings.Repeat("ü\xff", 10_000), Address: strings.Repeat("x", 10_000)})
	if err := f.SaveContacts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if body := j.Entries[len(j.Entries)-1].Body; len(body) > 500 || !json.Valid(body) {
		t.Errorf("%d bytes: %s", len(body), body)
	}
}

// TestRefusals: the last refusals of each gateway are remembered, equal ones once.
func TestRefusals(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	f, j := start(t, Options{Now: func() time.Time { now = now.Add(time.Second); return now }})
	members(t, j, "a")
	f.Refused("nobody", Refusal{Reason: "gone"})
	for i := range 3 {
		f.Refused("a", Refusal{Topic: "t", Reason: "gone", Text: strings.Repeat("x", 1000*i), Records: 2})
		f.Refused("a", Refusal{Topic: "u", Reason: "gone"})
	}
	all := f.Refusals("a")
	if len(all) != 2 || all[0].Topic != "t" || all[0].Times != 3 || all[0].Records != 6 || len(all[0].Text) != maxRefusalText || all[0].Last.Sub(all[0].First) != 4*time.Second || all[1].Times != 3 {
		t.Errorf("%+v", all)
	}
	for i := range 2 * maxRefusals {
		f.Refused("a", Refusal{Topic: fmt.Sprint(i), Reason: "gone"})
	}
	if all := f.Refusals("a"); len(all) != maxRefusals || all[maxRefusals-1].Topic != fmt.Sprint(2*maxRefusals-1) {
		t.Errorf("%+v", all)
	}
	for i := range maxRefusalGateways + 5 {
		id := fmt.Sprint("g", i)
		members(t, j, id)
		f.Refused(id, Refusal{Reason: "gone"})
		f.Refused(id, Refusal{Reason: "gone"})
	}
	have := 0
	for id := range f.watched {
		if len(f.Refusals(id)) > 0 {
			have++
		}
	}
	if have != maxRefusalGateways || f.refused != have || len(f.Refusals("a")) != 0 || f.Refusals("unheard of") != nil {
		t.Errorf("%d gateways have refusals, %d are counted", have, f.refused)
	}
}
