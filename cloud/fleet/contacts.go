package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ContactLevel is the format level from which on the log has the last contacts of
// gateways. Below it each owner knows those that it has had itself.
const ContactLevel = 2

// Bounds on what is written of contacts.
const (
	contactInterval = 5 * time.Minute // at least, from one entry about a gateway to the next
	contactEntry    = 1 << 20         // bytes of an entry, about; those that have waited longest go first
	maxSoftware     = 128             // bytes
	maxAddress      = 64              // bytes
)

// Contact is how a gateway was when it was there last. Times are Unix milliseconds, 0
// if there is none.
type Contact struct {
	At       int64  `json:"at"`
	Address  string `json:"address,omitempty"` // host and port
	Software string `json:"software,omitempty"`
	Records  uint64 `json:"records,omitempty"` // that it had and the cloud did not
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
	Same bool   `json:"same,omitempty"` // all but the time is as the log has it
	Contact
}

// watched is what this owner has heard of a gateway.
type watched struct {
	Contact         // newest; its Lost is not used
	lost     uint64 // reported, and not yet in the log
	refusals []Refusal
}

// Heard notes a contact; its Lost does not count. Gateways that are not members are
// not noted.
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

// Lost notes records that a gateway has reported as lost.
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

// Contact returns the last contact of a gateway, as this owner or the log knows it. A
// gateway that has joined and was never connected has the time of that. settled is the
// part of Lost that no owner will forget, or that of this owner where the log has
// none: it only grows.
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

// SaveContacts writes what is new of gateways about which nothing was written for some
// minutes, in one entry. Durable on return; nothing is written when there is nothing
// to say, or below ContactLevel. It is called by one goroutine.
func (f *Fleet) SaveContacts(ctx context.Context) error {
	if f.log.Level() < ContactLevel {
		return nil
	}
	now := f.o.Now()
	entry, lost, err := f.due(now)
	if err != nil || len(entry.Gateways) == 0 {
		return err
	}
	body, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode contacts: %w", err)
	}
	if err := f.log.Propose(ctx, kindContacts, body); err != nil {
		return fmt.Errorf("write contacts of %d gateways: %w", len(entry.Gateways), err)
	}
	f.hearing.Lock()
	defer f.hearing.Unlock()
	for id, n := range lost {
		f.watch(id).lost -= n
	}
	return nil
}

// due is what is to be written at a time, and how many lost records of each gateway
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
			break // the others are first the next time
		}
		entry.Gateways = append(entry.Gateways, c.contact)
		if c.lost > 0 {
			lost[c.ID] = c.lost
		}
	}
	return entry, lost, nil
}

// news returns what is to be written of a gateway. is reports whether there is something
// new, and the last entry about it is old enough.
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

// newer reports whether what this owner has heard is newer than c. What lies in the
// future was written by a node whose clock was wrong.
func (w *watched) newer(c Contact, now int64) bool {
	return w.At > 0 && (w.At >= c.At || c.At > now)
}
