package absence

import (
	"path"
	"slices"
	"strings"
)

// The reasons why nothing that remains can tell a damage. Each excuses the loss of
// the last records that were written, and what follows from that, nothing else.
const (
	// tail: the last slot of an epoch without a SEAL and a closing looks, when it
	// is missing, like one that was never written; so does the end of its pack.
	// Gateways report what is missing then in weir.gaps.
	tail = "the unsealed tail of the newest epoch"

	// witnesses: a clean stop leaves a closing, which tells how long the log is;
	// the marks in a row tell which packs it has. Both damages of a pair are about
	// the same records: one takes them, the other takes what tells of them.
	witnesses = "the tail of the newest epoch and what tells how long it is"

	// longCopy: slots that a copy had listed were rewritten and deleted before it
	// came to them, and what they were rewritten into is not in it. That takes two
	// passes of the upkeep: what one pass makes useless the next one deletes. The
	// tool that copies says so: a name that it had listed was gone. Slots that are
	// deleted before they are listed leave later ones behind the hole.
	longCopy = "a copy of which names vanished, with two passes of the upkeep meanwhile"
)

// excuse is a reason with how many records, the last that were written, it excuses.
type excuse struct {
	reason string
	last   int
}

// untold returns why nothing that remains can tell the damage of a cell; the zero
// excuse, if there is something that must.
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
	case has(last, flipped): // in the last group, else it is found
		e.last = w.sizeOf(1)
	case has(last, deleted) && has(row, older, cut):
		e = excuse{witnesses, len(w.written) - w.maintained}
	}
	if e.last == 0 {
		return excuse{}
	}
	return e
}

// suffix returns how many slots, the last of the newest epoch, a cell deletes.
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

// lastPack returns the names of the last pack and the file of the row of the newest
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
