package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// ContactLevel is the format level from which on the log has the last contacts of
// gateways. Below it an owner knows only its own.
const ContactLevel = 2

// Limits of what is written about contacts.
const (
	contactInterval = 5 * time.Minute // least time from one entry about a gateway to the next
	contactEntry    = 1 << 20         // bytes of an entry, roughly; gateways that have waited longest come first
	maxSoftware     = 128             // bytes
	maxAddress      = 64              // bytes
)

// Contact is the state of a gateway at its last contact. Times are Unix milliseconds, 0
// if there is none.
type Contact struct {
	At       int64  `json:"at"`
	Address  string `json:"address,omitempty"` // host and port
	Software string `json:"software,omitempty"`
	Records  uint64 `json:"records,omitempty"` // records on the gateway that the cloud does not have
	Bytes    uint64 `json:"bytes,omitempty"`   // of its disk
	Oldest   int64  `json:"oldest,omitempty"`  // timestamp of the oldest of the records
	Lost     uint64 `json:"lost,omitempty"`    // records that it has reported in weir.gaps since it joined
}

// Seen is a Contact in the log.
type Seen struct {
	Contact
	Saved int64 `json:"saved"` // when the entry was written
}

// contacts is the body of kindContacts.
type contacts struct {
	Saved    int64     `json:"saved"`
	Gateways []contact `json:"gateways"`
}

type contact struct {
	ID   string `json:"id"`
	Same bool   `json:"same,omitempty"` // only the time differs from what the log has
	Contact
}

// watched is what this owner has heard of a gateway.
type watched struct {
	Contact         // newest; its Lost is not used
	lost     uint64 // reported, and not yet in the log
	refusals []Refusal
}

// Heard records a contact; its Lost is ignored. Gateways that are not members are
// ignored.
func (f *Fleet) Heard(id string, c Contact) {
	if _, err := f.Gateway(id); err != nil {
		return
	}
	c.Software, c.Address, c.Lost = trim(c.Software, maxSoftware), trim(c.Address, maxAddress), 0
	f.hearing.Lock()
	defer f.hearing.Unlock()
	if w := f.watch(id); c.At >= w.At {
		w.Contact = c
	}
}

// Lost adds records that a gateway has reported as lost.
func (f *Fleet) Lost(id string, records uint64) {
	if _, err := f.Gateway(id); err != nil || records == 0 {
		return
	}
	f.hearing.Lock()
	defer f.hearing.Unlock()
	f.watch(id).lost += records
}

// watch is called with hearing held.
func (f *Fleet) watch(id string) *watched {
	w := f.watched[id]
	if w == nil {
		w = &watched{}
		f.watched[id] = w
	}
	return w
}

func trim(s string, most int) string {
	return strings.ToValidUTF8(s[:min(len(s), most)], "")
}

// Contact returns the last contact of a gateway that this owner or the log knows. For a
// gateway that has joined and was never connected it has the time of the join. settled
// is the part of Lost that no later owner forgets or, where the log has none, the part
// that this owner knows: it only grows.
func (f *Fleet) Contact(g Gateway) (c Contact, settled uint64) {
	if g.Seen != nil {
		c = g.Seen.Contact
	}
	settled = c.Lost
	f.hearing.Lock()
	defer f.hearing.Unlock()
	if w := f.watched[g.ID]; w != nil {
		if lost := c.Lost; w.newer(c, f.o.Now().UnixMilli()) {
			c = w.Contact
			c.Lost = lost
		}
		c.Lost += w.lost
		if f.log == nil || f.log.Level() < ContactLevel {
			settled = c.Lost
		}
	}
	if c.At == 0 {
		c.At = g.Joined.UnixMilli()
	}
	return c, settled
}

// SaveContacts writes one entry with what is new about gateways that have had no entry
// for some minutes. Durable on return. It writes nothing if there is nothing new, or
// below ContactLevel. One goroutine calls it.
func (f *Fleet) SaveContacts(ctx context.Context) error {
	if f.log.Level() < ContactLevel {
		return nil
	}
	now := f.o.Now()
	entry, lost, err := f.due(now)
	if err != nil || len(entry.Gateways) == 0 {
		return err
	}
	if err := machine.Propose(ctx, f.log, kindContacts, "contacts", entry); err != nil {
		return fmt.Errorf("write contacts of %d gateways: %w", len(entry.Gateways), err)
	}
	f.hearing.Lock()
	defer f.hearing.Unlock()
	for id, n := range lost {
		f.watch(id).lost -= n
	}
	return nil
}

// due returns what must be written at a time, and how many lost records of each gateway
// are in it for the first time.
func (f *Fleet) due(now time.Time) (entry contacts, lost map[string]uint64, err error) {
	f.mu.RLock()
	f.hearing.Lock()
	type candidate struct {
		saved int64
		contact
		lost uint64
	}
	var all []candidate
	for id, w := range f.watched {
		g := f.gateways[id]
		if g == nil {
			continue
		}
		var before Seen
		if g.Seen != nil {
			before = *g.Seen
		}
		if c, is := w.news(before, now.UnixMilli()); is {
			c.ID = id
			all = append(all, candidate{before.Saved, c, w.lost})
		}
	}
	f.hearing.Unlock()
	f.mu.RUnlock()
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.saved, b.saved), cmp.Compare(a.ID, b.ID)) })
	entry.Saved, lost = now.UnixMilli(), make(map[string]uint64)
	size := 0
	for _, c := range all {
		body, err := json.Marshal(c.contact)
		if err != nil {
			return entry, nil, fmt.Errorf("encode the contact of gateway %s: %w", c.ID, err)
		}
		if size += len(body); size > contactEntry {
			break // the others come first the next time
		}
		entry.Gateways = append(entry.Gateways, c.contact)
		if c.lost > 0 {
			lost[c.ID] = c.lost
		}
	}
	return entry, lost, nil
}

// news returns what must be written about a gateway. is reports whether there is
// something new and the last entry about it is old enough.
func (w *watched) news(before Seen, now int64) (c contact, is bool) {
	if past := now - before.Saved; past >= 0 && past < contactInterval.Milliseconds() {
		return c, false
	}
	c.Contact = before.Contact
	if w.newer(before.Contact, now) {
		c.Contact = w.Contact
	}
	c.Lost = before.Lost + w.lost
	if c.Contact == before.Contact {
		return c, false
	}
	at := c.At
	if c.At = before.At; c.Contact == before.Contact {
		return contact{Same: true, Contact: Contact{At: at}}, true
	}
	c.At = at
	return c, true
}

// newer reports whether this owner's information is newer than c. A time in the future
// was written by a node whose clock was wrong.
func (w *watched) newer(c Contact, now int64) bool {
	return w.At > 0 && (w.At >= c.At || c.At > now)
}
