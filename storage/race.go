package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	crypto "crypto/rand"

	"github.com/weirmq/weir/storage/pause"
)

// Objects of a race between two nodes. All are removed when it is over.
const (
	invitePrefix = "probe/invite/" // + id: a node invites others to a race
	racePrefix   = "probe/race/"   // + id/…: the names that are raced for, and the rest
)

const (
	raceRounds = 32               // names in a race
	raceScales = 11               // the longest wait before one is a second
	raceWait   = 10 * time.Second // how long one waits for the other in a round
	raceTidy   = 30 * time.Second // how long an inviter has to end a race before the other node removes the rest
	raceMost   = 4                // races that one call of JoinRaces takes part in
)

// Race checks whether two nodes exclude each other in the store. A node calls it when
// it joins others: Probe only shows that the node's own way to the store keeps the
// promise of Create, and two nodes may reach the store in different ways, for example
// through two sites that replicate to each other. Race invites another node to race for
// some names at the same time, each through its own endpoint, and compares who won.
//
// ask makes the other node look for invitations (JoinRaces). raced is false if no node
// came before ctx ended: that is not an error, but nothing is known then. The error
// wraps ErrNoCreate if both won a name or one's object was overwritten, else it names
// the operation that failed. A race takes some 200 requests and a few seconds.
func Race(ctx context.Context, b Bucket, ask func(context.Context) error) (raced bool, err error) {
	r := &race{b: b, id: crypto.Text(), side: "inviter", other: "rival"}
	defer func() {
		if left := r.cleanUp(context.WithoutCancel(ctx)); err == nil {
			err = left
		}
	}()
	if err := b.Create(ctx, invitePrefix+r.id, nil); err != nil {
		return false, fmt.Errorf("invite to a race: %w", err)
	}
	if err := ask(ctx); err != nil {
		return false, fmt.Errorf("invite to a race: %w", err)
	}
	if _, err := r.wait(ctx, "accept"); err != nil {
		return false, unlessAlone(ctx, err)
	}
	if err := r.run(ctx); err != nil {
		return false, unlessAlone(ctx, err)
	}
	if _, err := r.wait(ctx, "report"); err != nil {
		return false, unlessAlone(ctx, err)
	}
	report, err := b.Get(ctx, r.key("report"), 0, -1)
	if err != nil {
		return false, unlessAlone(ctx, err)
	}
	return true, r.compare(report)
}

// unlessAlone returns nil instead of err if the race failed because the other node did
// not take part.
func unlessAlone(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, errAlone) {
		return nil
	}
	return fmt.Errorf("race with another node: %w", err)
}

// JoinRaces takes part in the races that other nodes have invited to, and returns how
// many there were. It lists once.
func JoinRaces(ctx context.Context, b Bucket) (joined int, err error) {
	keys, err := b.List(ctx, invitePrefix, "", 1000)
	if err != nil {
		return 0, fmt.Errorf("list invitations to races: %w", err)
	}
	for _, key := range keys {
		r := &race{b: b, id: key[len(invitePrefix):], side: "rival", other: "inviter"}
		switch came, err := r.join(ctx); {
		case err != nil:
			return joined, fmt.Errorf("race with another node: %w", err)
		case came:
			joined++
		}
		if joined == raceMost {
			break
		}
	}
	return joined, nil
}

func (r *race) join(ctx context.Context) (came bool, err error) {
	err = r.b.Create(ctx, r.key("accept"), nil)
	if errors.Is(err, ErrExists) {
		return false, nil // another node takes part, or this one did
	}
	if err != nil {
		return false, err
	}
	if err := r.run(ctx); err != nil && !errors.Is(err, errAlone) {
		return true, err
	}
	report, err := json.Marshal(r.raced)
	if err != nil {
		return true, err
	}
	if err := r.b.Create(ctx, r.key("report"), report); err != nil {
		return true, err
	}
	return true, r.finish(ctx)
}

// finish waits for the inviter to remove everything, and then removes what this side
// has created since. If the inviter does not, it removes everything: without the
// inviter there is no result.
func (r *race) finish(ctx context.Context) error {
	for end := time.Now().Add(raceTidy); time.Now().Before(end); {
		_, err := r.b.Get(ctx, invitePrefix+r.id, 0, -1)
		if errors.Is(err, fs.ErrNotExist) {
			break // what this side has created since is left
		}
		if err != nil {
			return err
		}
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
	return r.cleanUp(ctx)
}

// errAlone: the other node does not come to a round, or to the end.
var errAlone = errors.New("the other node does not take part any more")

// race is one side of a race.
type race struct {
	b           Bucket
	id          string
	side, other string
	rounds      int // names raced for so far
	raced
}

// raced is the result of one side.
type raced struct {
	Won         []int `json:"won,omitempty"`         // names that this side created
	Overwritten []int `json:"overwritten,omitempty"` // of those, which hold something else afterwards
}

func (r *race) key(name string) string { return racePrefix + r.id + "/" + name }

func (r *race) name(round int) string { return r.key(fmt.Sprintf("%03d", round)) }

func (r *race) ready(round int, side string) string { return fmt.Sprintf("%03d-%s", round, side) }

// run races for one name after the other. Before each race both sides announce that
// they are ready, and wait for the other. The one that comes later finds the other
// ready at once, and knows so before the other does. So it waits a little: see late.
func (r *race) run(ctx context.Context) error {
	for round := range raceRounds {
		if err := r.b.Create(ctx, r.key(r.ready(round, r.side)), nil); err != nil {
			return err
		}
		later, err := r.wait(ctx, r.ready(round, r.other))
		if err == nil && later {
			err = pause.For(ctx, late(round))
		}
		if err != nil {
			return err
		}
		err = r.b.Create(ctx, r.name(round), []byte(r.side))
		switch {
		case err == nil:
			r.Won = append(r.Won, round)
		case !errors.Is(err, ErrExists) && !errors.Is(err, ErrUnknown): // the owner of the object is not known
			return err
		}
		r.rounds++
	}
	for _, round := range r.Won {
		got, err := r.b.Get(ctx, r.name(round), 0, -1)
		if err != nil {
			return err
		}
		if string(got) != r.side {
			r.Overwritten = append(r.Overwritten, round)
		}
	}
	return nil
}

// late is how long the later side of a round waits: a random time, in every other round
// up to another power of two. So in some rounds both begin within the time after which
// an endpoint sees what came through the other, whatever that time is.
func late(round int) time.Duration {
	scale := 1
	if round%2 == 1 {
		scale = round / 2 % raceScales
	}
	return rand.N(time.Millisecond << scale)
}

// wait waits for an object of the race. It reports whether the object was there at
// once.
func (r *race) wait(ctx context.Context, name string) (atOnce bool, err error) {
	limit := time.Now().Add(raceWait)
	for try := 1; ; try++ {
		_, err := r.b.Get(ctx, r.key(name), 0, 1)
		if !errors.Is(err, fs.ErrNotExist) {
			return try == 1, err
		}
		if time.Now().After(limit) {
			return false, errAlone
		}
		// Often at first, while the other side is about to come.
		if err := pause.For(ctx, rand.N(time.Duration(min(try, 10))*time.Millisecond)); err != nil {
			return false, err
		}
	}
}

// compare compares the results of both sides.
func (r *race) compare(report []byte) error {
	var theirs raced
	if err := json.Unmarshal(report, &theirs); err != nil {
		return fmt.Errorf("race with another node: read its report: %w", err)
	}
	both := slices.DeleteFunc(slices.Clone(r.Won), func(n int) bool { return !slices.Contains(theirs.Won, n) })
	if len(both) > 0 {
		return fmt.Errorf("race with another node: both won %d of %d names, each through its own endpoint of the store: %w", len(both), r.rounds, ErrNoCreate)
	}
	if n := len(r.Overwritten) + len(theirs.Overwritten); n > 0 {
		return fmt.Errorf("race with another node: of %d names %d were overwritten: %w", r.rounds, n, ErrNoCreate)
	}
	return nil
}

// cleanUp removes the objects of a race: first the report, after which there is no
// result any more, and last the invitation.
func (r *race) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, raceTidy)
	defer cancel()
	var keys []string
	for round := range raceRounds {
		keys = append(keys, r.name(round), r.key(r.ready(round, r.side)), r.key(r.ready(round, r.other)))
	}
	for _, batch := range [][]string{{r.key("report")}, append(keys, r.key("accept")), {invitePrefix + r.id}} {
		if err := r.b.Delete(ctx, batch...); err != nil {
			return fmt.Errorf("remove what a race left: %w", err)
		}
	}
	return nil
}
