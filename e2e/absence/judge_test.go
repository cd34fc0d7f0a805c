package absence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/sync/join"
)

// patience is how long a start, a check or a pass may take. It ends
// those that hang.
const patience = time.Minute

// judge plays a cell and returns what is wrong, and what the node did.
type judge struct {
	w        *world
	cell     cell
	before   image
	home     home
	promised []written // all records that are not excused
	excused  int       // records that are missing and excused
	problems []string

	found   []string // problems that check found
	checked error    // of check
	outcome string
	told    []string // what check, node and readers said about the damage
}

func (j *judge) problem(format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf(format, args...))
}

// play plays a cell on a kind of bucket.
// Records that are excused need not be there.
func (w *world) play(ctx context.Context, k kind, n int, c cell, e excuse, r *rand.Rand) (j *judge, err error) {
	img := w.apply(c, r)
	h, remove, err := k.make(ctx, n, img)
	if err != nil {
		return nil, err
	}
	j = &judge{w: w, cell: c, before: img, home: h, promised: w.written[:len(w.written)-e.last]}
	j.run(ctx)
	if e.last > 0 && j.excused > 0 {
		j.outcome += ", but for " + e.reason
	}
	return j, remove()
}

func (j *judge) run(ctx context.Context) {
	j.check(ctx)
	b, err := j.home.open()
	if err != nil {
		j.refused(err)
		return
	}
	defer func() {
		if err := storage.Close(b); err != nil {
			j.problem("close the bucket: %v", err)
		}
	}()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := boot(limited, b, "judge", 0)
	switch {
	case limited.Err() != nil:
		j.problem("the node neither starts nor refuses: %v", err)
	case err != nil:
		j.refused(err)
	default:
		j.booted(limited, n)
	}
}

// check runs weirctl's check on the bucket that the node will find.
func (j *judge) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	b, err := j.home.open()
	if err == nil {
		var report check.Report
		report, err = check.Check(ctx, b, nil)
		j.found = report.Problems
		if err := fleet.CheckAuthority(ctx, b); err != nil {
			j.found = append(j.found, err.Error())
		}
		err = errors.Join(err, storage.Close(b))
	}
	if ctx.Err() != nil {
		j.problem("check does not end: %v", err)
	}
	j.checked = err
	j.told = append(j.told, j.found...)
	if err != nil {
		j.told = append(j.told, err.Error())
	}
}

func (j *judge) clean() bool { return j.checked == nil && len(j.found) == 0 }

// known reports whether weir-cloud says what to do about an error and ends with an exit
// code after which it is not started again: see refuses there.
func known(err error) bool {
	for _, kind := range []error{storage.ErrMissing, storage.ErrDamaged, journal.ErrCorrupt, state.ErrCorrupt, join.ErrCorrupt} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// refused: the node names what is damaged and says what to do, check found it, and
// nothing in the bucket has changed.
func (j *judge) refused(err error) {
	j.outcome = "refused"
	j.told = append(j.told, err.Error())
	if j.clean() {
		j.problem("check finds nothing, the node refuses: %v", err)
	}
	if !j.names(err.Error()) {
		j.problem("the refusal does not name the object: %v", err)
	}
	if !known(err) {
		j.problem("the refusal names no way on: %v", err)
	}
	after, err := j.home.look()
	if err != nil {
		// The bucket reports its own damage.
		if !errors.Is(err, storage.ErrDamaged) {
			j.problem("look at the bucket: %v", err)
		}
		return
	}
	for name, body := range j.before {
		if now, there := after[name]; !there {
			j.problem("a start that was refused has deleted %s", name)
		} else if !bytes.Equal(now, body) {
			j.problem("a start that was refused has changed %s", name)
		}
	}
}

// names reports whether a text names an object of the cell, the row that a file
// belongs to, or, for a checkpoint, the oldest that it may be.
func (j *judge) names(text string) bool {
	if len(j.cell) == 0 { // a copy: which object is missing is not known
		return strings.Contains(text, "0000/") || strings.Contains(text, "checkpoint") || strings.Contains(text, "cluster") || strings.Contains(text, "authority")
	}
	for _, d := range j.cell {
		if strings.Contains(text, d.name) || strings.Contains(text, path.Dir(d.name)+"/") && strings.Contains(d.name, "/log/") {
			return true
		}
		if strings.Contains(d.name, "/checkpoint/") && strings.Contains(text, path.Dir(d.name)+"/") {
			return true
		}
	}
	return false
}

// booted: all that was acknowledged is read, or readers get an error; no offset is
// used twice; and the node loses nothing of it in what it does next.
func (j *judge) booted(ctx context.Context, n *node) {
	j.outcome = "booted"
	if !bytes.Equal(n.ca.Certificate().Raw, j.w.authority) {
		j.problem("the node has made another authority: every gateway would have to join again")
	}
	if id := n.log.ClusterID(); id != j.w.cluster {
		j.problem("the node has made another cluster: %s", id)
	}
	if _, err := n.fleet.Gateway("gateway-1"); err != nil {
		j.problem("the gateway is not known any more: %v", err)
	}
	first := j.readAll(ctx, n, "after the start")
	lost := j.audit(first, "after the start")
	if lost > 0 {
		j.outcome = "booted with a gap"
		if j.clean() {
			j.problem("check finds nothing, %d records are not there", lost)
		}
	}
	j.write(ctx, n, first)
	for range 2 {
		// The upkeep reports an error itself: it may find what is damaged.
		if err := n.log.Maintain(ctx); err != nil && ctx.Err() != nil {
			j.problem("the upkeep does not end: %v", err)
		}
	}
	if later := j.readAll(ctx, n, "after the upkeep"); later != nil {
		j.survive(first, later)
	}
	if err := n.shard.Close(); err != nil {
		j.problem("close: %v", err)
	}
}

func (j *judge) readAll(ctx context.Context, n *node, when string) map[place]reading {
	all := map[place]reading{}
	for _, p := range j.w.places {
		r, err := n.read(ctx, p)
		if err != nil {
			j.problem("%s: partition %d: %v", when, p.partition, err)
		}
		for _, h := range r.holes {
			j.told = append(j.told, h.err.Error())
		}
		all[p] = r
	}
	return all
}

// audit compares what was acknowledged with what is read. It returns how many
// records are missing.
func (j *judge) audit(all map[place]reading, when string) (lost int) {
	silent, offsets := 0, ""
	j.excused = 0
	for _, w := range j.w.written[len(j.promised):] {
		if all[w.place()].values[w.offset] != w.value {
			j.excused++
		}
	}
	for _, w := range j.promised {
		r := all[w.place()]
		switch value, there := r.values[w.offset]; {
		case there && value == w.value:
			continue
		case there:
			j.problem("%s: offset %d of partition %d holds another record", when, w.offset, w.partition)
		}
		lost++
		err := r.told(w.offset)
		if err == nil {
			silent++
			offsets = fmt.Sprintf("%s %d/%d", offsets, w.partition, w.offset)
		} else if !j.names(err.Error()) {
			j.problem("%s: the error at offset %d does not name the object: %v", when, w.offset, err)
		}
	}
	if silent > 0 {
		j.problem("%s: %d acknowledged records are missing without a word: %.60s", when, silent, offsets)
	}
	return lost
}

// write appends to each partition, and checks that the offset is new.
func (j *judge) write(ctx context.Context, n *node, first map[place]reading) {
	for _, p := range j.w.places {
		all, err := n.append(ctx, p, "new")
		if err != nil {
			j.problem("append: %v", err)
			continue
		}
		for _, w := range j.promised {
			if w.place() == p && w.offset >= all[0].offset {
				j.problem("offset %d of partition %d is given out again, up to %d was acknowledged", all[0].offset, p.partition, w.offset)
				break
			}
		}
	}
}

// survive checks that what could be read can still be read.
func (j *judge) survive(first, later map[place]reading) {
	for p, r := range first {
		gone := 0
		for offset, value := range r.values {
			if later[p].values[offset] != value {
				gone++
			}
		}
		if gone > 0 {
			j.problem("the node has destroyed %d records of partition %d that could be read", gone, p.partition)
		}
	}
}
