package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// TestConformance walks through a world at random, with the real journal in the
// place of one node. Whatever the others and the bucket do meanwhile, it must
// make exactly the calls of the model, get the same answers, acknowledge the same,
// delete nothing that the model keeps, delete in the order of the model, and come to
// the same end.
func TestConformance(t *testing.T) {
	walking := []verb{lists, gets, passesSeal, meetsHole, findsBegun, findsNotBegun, getsAgain, findsMissing, findsDifferent, startsOver}
	for _, test := range []struct {
		name string
		world
		real  int
		walks uint64
		some  []verb // all of these must occur
	}{
		{"Journal", world{epochs: 4, slots: 2, nodes: 3, depth: 2, saves: 3}, 0, 4000,
			append(walking, claims, creates, meetsTaken, vanishes, listsClean, owns, sends, hears, sendsSave, gives, dies)},
		{"Yield", world{epochs: 4, slots: 2, nodes: 3, depth: 2, yields: true}, 0, 1000,
			[]verb{claims, passesSeal, creates, owns, sends, hears, yields, hearsYield, confirms, dies}},
		{"Replay", world{epochs: 3, slots: 2, nodes: 2, depth: 2, saves: 3, replay: true}, 2, 1000,
			append(walking, replays, findsStart, missesStart, findsTombstone, ends)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			walks, few := test.walks, raceEnabled || testing.Short()
			if few {
				walks /= 20
			}
			var counts [verbs]int
			for seed := range walks {
				synctest.Test(t, func(t *testing.T) {
					r := &rig{t: t, w: &test.world, real: test.real, disk: mem.New(), rng: rand.New(rand.NewPCG(seed, 1)), counts: &counts}
					r.s = r.w.first()
					r.walk(250)
				})
				if t.Failed() {
					t.Fatalf("walk %d", seed)
				}
			}
			steps := 0
			for _, n := range counts {
				steps += n
			}
			t.Logf("%d walks, in which the real node took %d steps", walks, steps)
			for _, v := range test.some {
				if counts[v] == 0 && !few {
					t.Errorf("in no walk a step like: %s", texts[v])
				}
			}
		})
	}
}

// rig is a state of the model together with the real bucket and the real node.
type rig struct {
	t      *testing.T
	w      *world
	s      state
	real   int // index of the node that the real journal replaces
	rng    *rand.Rand
	counts *[verbs]int // steps of the real node
	disk   *mem.Bucket
	trace  []string
	sent   map[string][]byte  // by key: the bytes that a real process last tried to create
	seals  map[position][]int // epochs of those that sent a SEAL

	p      *process   // the real node, while it is alive
	echoes []position // checkpoints of which a real owner found its own copy: another may still be under way
}

// walk takes random steps through the model.
func (r *rig) walk(most int) {
	r.sent, r.seals = make(map[string][]byte), make(map[position][]int)
	var x steps
	for range most {
		r.w.next(&r.s, &x)
		if x.n == 0 {
			break
		}
		next := &x.all[r.rng.IntN(x.n)]
		real := next.verb > strangerClaims && int(next.node) == r.real
		if r.rng.Float64() > odds(next.verb) || real && next.verb == sendsSave && r.p.saving != 0 {
			continue
		}
		before := r.s
		r.s = next.state
		if n := &r.s.nodes[next.node]; n.stage == sealing {
			r.seals[n.at] = append(r.seals[n.at], int(n.epoch))
		}
		r.trace = append(r.trace, next.tell(fmt.Sprintf("node %d", next.node)))
		if real {
			r.counts[next.verb]++
			r.step(next.action, &before)
		} else {
			r.others(next.action, &before)
		}
		r.compare()
		if r.t.Failed() {
			r.t.Log("\n" + strings.Join(r.trace, "\n"))
			break
		}
	}
	if r.p != nil {
		r.p.kill()
	}
}

// odds is the chance that a step which was drawn is taken: some would end most walks
// before much has happened.
func odds(v verb) float64 {
	switch v {
	case strangerClaims, dies:
		return 0.03
	case claims:
		return 0.2
	}
	return 1
}

// others applies to the real bucket what the bucket or another node did.
func (r *rig) others(a action, before *state) {
	if r.s.claims > before.claims {
		r.put(claimKey(int(r.s.claims)), claimObject(int(r.s.claims), [16]byte{r.s.claims}))
	}
	switch a.verb {
	case saveLands, hearsSave:
		r.saveLands(a.pos)
	case saveDeleted:
		r.remove(saveKey(a.pos))
	case writesTombstone:
		author := int(r.s.nodes[a.node].epoch)
		r.put(tombstoneKey(a.pos), tombstoneObject(a.pos, author, r.nonce(author)))
	}
	for e := 1; e <= int(r.s.claims); e++ {
		for slot := range r.w.slots + 2 {
			p := at(e, slot)
			switch c := r.s.cell(p); {
			case c == before.cell(p):
			case c == absent:
				r.remove(slotKey(p))
			case c == seal && a.verb == ownSealLands:
				r.put(slotKey(p), r.ownSeal(p))
			case c == seal && a.verb == hearsYield:
				r.put(slotKey(p), r.ownSeal(p))
			case c == seal:
				author := int(r.s.nodes[a.node].epoch)
				if a.verb == sealLands {
					author = r.seals[p][r.rng.IntN(len(r.seals[p]))]
				}
				r.put(slotKey(p), sealObject(p, author, r.nonce(author)))
			case slot == 0:
				r.putSent(slotKey(p), typeHeader, headerObject(e, r.nonce(e), r.s.epoch(e).head))
			default:
				r.putSent(slotKey(p), typeData, dataObject(p, r.nonce(e)))
			}
		}
	}
}

// ownSeal returns the SEAL that the owner of an epoch puts at p: the bytes that the real one
// has sent, or else others that mean the same.
func (r *rig) ownSeal(p position) []byte {
	if sent := r.sent[slotKey(p)]; sent != nil && authorOf(sent) == p.epoch() {
		return sent
	}
	return yieldObject(p, r.nonce(p.epoch()), p.slot()-1-int(r.s.epoch(p.epoch()).owned))
}

// saveLands lets a checkpoint arrive. If the real node waits for it, it is told
// at once, or finds it later, and may delete what is before it.
func (r *rig) saveLands(pos position) {
	if r.p == nil || r.p.saving != pos {
		r.putSent(saveKey(pos), typeCheckpoint, saveObject(pos, r.nonce(pos.epoch()), r.s.saved(pos.epoch())))
		return
	}
	late := r.rng.IntN(2) == 0
	if late {
		r.put(saveKey(pos), r.p.objects[saveKey(pos)])
		r.echoes = append(r.echoes, pos)
	}
	r.p.pass("CREATE", saveKey(pos))
	if late {
		r.p.pass("GET", saveKey(pos))
	}
	r.p.deleteSaves(pos, int(r.s.claims))
	if r.rng.IntN(2) > 0 {
		return
	}
	var kept []position
	gone := r.p.truncate(pos, func(p journal.Position) bool {
		keep := r.rng.IntN(2) == 0
		if keep {
			kept = append(kept, at(int(p.Epoch), int(p.Slot)))
		}
		return keep
	}, func() { r.tombstones(pos) })
	r.deleted(pos, gone)
	for _, p := range kept {
		if p.slot() == 0 || slices.Contains(gone, p) {
			r.t.Errorf("slot %d/%d is asked for and kept, and deleted: %v", p.epoch(), p.slot(), slices.Contains(gone, p))
		}
	}
	old := slices.DeleteFunc(kept, func(position) bool { return r.rng.IntN(2) == 0 })
	r.deleted(pos, r.p.remove(pos, old, func() { r.tombstones(pos) }))
}

// deleted notes what a real owner has deleted below its checkpoint pos.
func (r *rig) deleted(pos position, gone []position) {
	for _, p := range gone {
		if !r.w.deletable(&r.s, p, r.s.newest) {
			r.t.Errorf("slot %d/%d is deleted for checkpoint %d/%d", p.epoch(), p.slot(), pos.epoch(), pos.slot())
		}
		r.s.epoch(p.epoch()).put(p.slot(), absent)
	}
}

// tombstones checks that a real owner may delete slots before its checkpoint pos: no
// older checkpoint of its epoch is there or can come back without a tombstone,
// and there is one for those of earlier epochs.
func (r *rig) tombstones(pos position) {
	var newest string
	for slot := range pos.slot() {
		if p := at(pos.epoch(), slot); r.get(tombstoneKey(p)) != nil {
			newest = saveKey(p)
		}
	}
	for slot := range pos.slot() {
		p := at(pos.epoch(), slot)
		if key := saveKey(p); key > newest && (slot == 0 || r.get(key) != nil || slices.Contains(r.echoes, p)) {
			r.t.Errorf("slots are deleted before checkpoint %d/%d, and %s has no tombstone", pos.epoch(), pos.slot(), key)
		}
	}
}

// nonce returns the nonce of the claim of an epoch.
func (r *rig) nonce(epoch int) [16]byte { return nonceOf(r.get(claimKey(epoch))) }

func (r *rig) put(key string, object []byte) {
	if err := r.disk.Create(context.Background(), key, object); err != nil {
		r.t.Errorf("put: %v", err)
	}
}

// putSent stores the bytes that a real process tried to create there, or else the object.
func (r *rig) putSent(key string, typ int, object []byte) {
	if sent := r.sent[key]; sent != nil && typeOf(sent) == typ {
		object = sent
	}
	r.put(key, object)
}

func (r *rig) remove(key string) {
	if err := r.disk.Delete(context.Background(), key); err != nil {
		r.t.Errorf("remove: %v", err)
	}
}

// get returns the object, or nil if there is none.
func (r *rig) get(key string) []byte {
	object, err := r.disk.Get(context.Background(), key, 0, -1)
	if err != nil {
		return nil
	}
	return object
}

// compare checks that the real bucket has the same content as the model's.
func (r *rig) compare() {
	for e := 1; e <= int(r.s.claims); e++ {
		for slot := range r.w.slots + 2 {
			p := at(e, slot)
			object, want := r.get(slotKey(p)), 0
			switch c := r.s.cell(p); {
			case c == seal:
				want = typeSeal
			case c == data && slot == 0:
				want = typeHeader
			case c == data:
				want = typeData
			}
			if object == nil && want != 0 || object != nil && typeOf(object) != want {
				r.t.Errorf("under %d/%d is %x, not type %d", e, slot, object, want)
			}
		}
	}
	keys, err := r.disk.List(context.Background(), checkpointPrefix, "", 100)
	if newest := r.s.newest; err != nil || len(keys) > 0 && keys[len(keys)-1] != saveKey(newest) || len(keys) == 0 && newest != 0 {
		r.t.Errorf("checkpoints are %q, error %v, the newest should be %d/%d", keys, err, newest.epoch(), newest.slot())
	}
}

// step lets the real node make the calls of one step.
func (r *rig) step(a action, before *state) {
	was, is := &before.nodes[r.real], &r.s.nodes[r.real]
	slot, header := slotKey(a.pos), slotKey(at(int(was.epoch), 0))
	switch a.verb {
	case claims, replays:
		r.p = start(r)
		r.p.pass("LIST", claimPrefix)
		if a.verb == claims {
			r.p.pass("CREATE", claimKey(int(a.epoch)))
		}
	case findsStart, missesStart:
		r.p.pass("GET", saveKey(was.start))
	case findsTombstone:
		r.p.pass("LIST", tombstonePrefix)
	case lists, startsOver:
		r.p.pass("LIST", checkpointPrefix)
		if is.start != was.start {
			r.p.pass("GET", saveKey(is.start))
		}
	case gets, passesSeal, meetsHole, getsAgain, findsMissing, findsDifferent, vanishes:
		r.p.pass("GET", slot)
		if object := r.get(slot); object != nil && r.real < r.w.nodes && authorOf(object) > int(a.epoch) {
			*is = node{} // a SEAL by a higher claim ends it; in the model the node dies
			r.ended(journal.ErrFenced)
		}
	case findsBegun, findsNotBegun:
		r.p.pass("GET", slotKey(at(int(was.look), 0)))
	case creates, meetsTaken:
		r.p.pass("CREATE", slot)
	case listsClean:
		r.p.pass("LIST", checkpointPrefix)
	case owns:
		r.p.pass("CREATE", header)
		if before.epoch(int(a.epoch)).cell(0) != absent {
			r.p.pass("GET", header)
		}
		r.p.owner(a)
		if r.w.yields { // the claims of the others have these nonces
			r.p.expect([16]byte{a.epoch + 1})
		}
	default:
		r.stepOwner(a, before)
	}
}

// stepOwner is step for the verbs of an owner.
func (r *rig) stepOwner(a action, before *state) {
	was, is := &before.nodes[r.real], &r.s.nodes[r.real]
	switch a.verb {
	case sends:
		r.p.write(a.pos)
	case hears:
		r.p.pass("CREATE", slotKey(a.pos))
		if before.cell(a.pos) != absent {
			r.p.pass("GET", slotKey(a.pos))
		}
		r.p.applied(is.view, is.at)
	case yields:
		r.p.yield()
	case hearsYield:
		r.p.pass("CREATE", slotKey(a.pos))
		if before.cell(a.pos) != absent {
			r.p.pass("GET", slotKey(a.pos))
		}
	case confirms:
		r.p.confirm(was.at, at(int(was.epoch), int(was.sent)+1))
	case sendsSave:
		r.p.save(a.pos)
	case ends:
		r.p.pass("LIST", tombstonePrefix)
		r.p.applied(was.view, a.pos)
		r.ended(nil)
	case gives:
		if was.stage == heading {
			r.p.pass("CREATE", slotKey(at(int(was.epoch), 0)))
			r.p.pass("GET", slotKey(at(int(was.epoch), 0)))
		} else {
			r.p.pass("LIST", checkpointPrefix)
		}
		r.ended(journal.ErrFenced)
	case dies:
		r.fence(before)
		r.p.kill()
		r.p = nil
	default:
		r.t.Errorf("the real node can not do that: %s", texts[a.verb])
	}
}

// ended checks with which error the real node ended.
func (r *rig) ended(want error) {
	if err, ok := r.p.result(); !ok || !errors.Is(err, want) || want == nil && err != nil {
		r.t.Errorf("ended: %v, with %v, not with %v", ok, err, want)
	}
	r.p = nil
}

// fence lets an owner that is about to die, and has sent a slot to a place of a
// SEAL, find the SEAL.
func (r *rig) fence(before *state) {
	n := &before.nodes[r.real]
	for slot := n.at.slot(); n.stage == owning && slot <= int(n.sent); slot++ {
		if p := at(int(n.epoch), slot); before.cell(p) == seal && n.known>>slot&1 == 0 {
			r.p.pass("CREATE", slotKey(p))
			r.p.pass("GET", slotKey(p))
			if err := r.p.journal.Err(); !errors.Is(err, journal.ErrFenced) {
				r.t.Errorf("an owner met a SEAL and ended with %v", err)
			}
			return
		}
	}
}
