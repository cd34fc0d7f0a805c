package absence

import (
	"path"
	"slices"
	"strings"
)

// The reasons why no remaining object can show a damage. Each excuses the loss of
// the last records that were written, and what follows from that, but nothing else.
const (
	// tail: if the last slot of an epoch without a SEAL and a closing object is
	// missing, it looks as if it was never written; so does the end of its pack.
	// Gateways then report what is missing in weir.gaps.
	tail = "the unsealed tail of the newest epoch"

	// witnesses: a clean stop leaves a closing object, which says how long the log is;
	// the marks in a row say which packs it has. Both damages of a pair concern
	// the same records: one removes them, the other removes the object that shows it.
	witnesses = "the tail of the newest epoch and what tells how long it is"

	// longCopy: slots that a copy had listed were rewritten and deleted before it
	// came to them, and the segment that they were rewritten into is not in it. That takes two
	// passes of the upkeep: the next pass deletes what one pass has made useless. The
	// copying tool reports it: a name that it had listed was gone. Slots that are
	// deleted before they are listed leave later ones after the hole.
	longCopy = "a copy of which names vanished, with two passes of the upkeep meanwhile"
)

// excuse is a reason, and how many of the last records that were written it excuses.
type excuse struct {
	reason string
	last   int
}

// untold returns why no remaining object can show the damage of a cell, or the zero
// excuse if one must.
func (w *world) untold(c cell) excuse {
	e := excuse{reason: tail}
	if w.end == closed {
		if !slices.ContainsFunc(c, func(d damage) bool { return strings.Contains(d.name, "/closed/") }) {
			return excuse{}
		}
		e.reason = witnesses
	}
	has := func(name string, all ...how) bool {
		return slices.ContainsFunc(c, func(d damage) bool { return d.name == name && slices.Contains(all, d.how) })
	}
	last, row := w.lastPack()
	switch {
	case last == "":
		e.last = w.sizeOf(w.suffix(c))
	case has(last, older):
		e.last = len(w.written) - w.remembered
	case has(last, flipped): // in the last group: anywhere else it is found
		e.last = w.sizeOf(1)
	case has(last, deleted) && has(row, older, cut):
		e = excuse{witnesses, len(w.written) - w.maintained}
	}
	if e.last == 0 {
		return excuse{}
	}
	return e
}

// suffix returns how many of the last slots of the newest epoch a cell deletes.
func (w *world) suffix(c cell) (n int) {
	slots := w.newestSlots()
	for n < len(slots) && slices.Contains(c, damage{slots[len(slots)-1-n], deleted}) {
		n++
	}
	return n
}

// newestSlots returns the names of the slots of the newest epoch that are objects,
// in order.
func (w *world) newestSlots() (slots []string) {
	folder := w.newestEpoch()
	for name := range w.image {
		if path.Dir(name) == folder && len(path.Base(name)) == 20 {
			slots = append(slots, name)
		}
	}
	slices.Sort(slots)
	return slots
}

// newestEpoch returns the folder of the slots of the newest epoch.
func (w *world) newestEpoch() (folder string) {
	for name := range w.image {
		if strings.Contains(name, "/log/") {
			folder = max(folder, path.Dir(name))
		}
	}
	return folder
}

// lastPack returns the names of the last pack and of the row's file in the newest
// epoch, "" if there is none.
func (w *world) lastPack() (last, row string) {
	folder := w.newestEpoch()
	for name := range w.image {
		if path.Dir(name) == folder && strings.HasPrefix(path.Base(name), "pack-") {
			last, row = max(last, name), folder+"/row"
		}
	}
	return last, row
}

// sizeOf returns how many records there are in the last n batches.
func (w *world) sizeOf(n int) (records int) {
	for _, size := range w.batches[len(w.batches)-n:] {
		records += size
	}
	return records
}
