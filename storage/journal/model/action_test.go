package model

import "fmt"

// verb is what happens in one step.
type verb uint8

const (
	begins verb = iota

	// The bucket, and others.
	headerLands
	dataLands
	otherLands
	sealLands
	saveLands
	slotDeleted
	saveDeleted
	closingLands
	ownSealLands
	strangerClaims

	// A claimant or a replay: claim, walk, seal, list again, header.
	claims
	beginsList
	listsLess
	lists
	gets
	readsAhead
	passesSeal
	meetsHole
	findsBegun
	findsNotBegun
	getsAgain
	findsMissing
	findsDifferent
	startsOver
	creates
	meetsTaken
	vanishes
	findsStart
	missesStart
	findsTombstone
	listsClean
	owns

	// An owner.
	sends
	hears
	sendsSave
	hearsSave
	deletesSaves
	writesTombstone
	truncates
	drops
	removes
	closes
	yields
	hearsYield
	confirms
	stepsDown

	// A standby, or a reader.
	follows
	tails
	seesSeal
	believesList
	believesHeader
	reloads
	claimsStanding
	replays
	ends

	// Any node.
	gives
	dies
	meetsCorrupt
	meetsForeign

	// In mutations only.
	claimsTaken
	resumes
	passesHole
	believesUnread
	headsEarly
	ownsEarly
	savesEarly
	reuses
	assumes
	answers
	adopts

	verbs
)

// texts describes each verb: %[1]s is the node, %[2]v the position, %[3]d the epoch of
// the node.
var texts = [verbs]string{
	begins: "the bucket is empty",

	headerLands:    "a Create arrives late: HEADER %[2]v",
	dataLands:      "a Create arrives late: DATA %[2]v",
	otherLands:     "a Create arrives late: DATA %[2]v, the other bytes",
	sealLands:      "a Create arrives late: SEAL %[2]v",
	saveLands:      "a Create arrives: checkpoint %[2]v",
	slotDeleted:    "a Delete arrives: slot %[2]v",
	closingLands:   "a Create arrives: CLOSING %[2]v",
	ownSealLands:   "a Create arrives late: the owner's own SEAL %[2]v",
	saveDeleted:    "a Delete arrives: checkpoint %[2]v",
	strangerClaims: "some other node claims epoch %[3]d, and dies",

	claims:         "%[1]s claims epoch %[3]d",
	beginsList:     "%[1]s begins to list the checkpoints",
	listsLess:      "%[1]s ends its List, which lacks one that must be there: again",
	lists:          "%[1]s lists the checkpoints, and walks from %[2]v",
	gets:           "%[1]s gets %[2]v, and applies it",
	readsAhead:     "%[1]s reads ahead, the slot behind %[2]v",
	passesSeal:     "%[1]s gets %[2]v: a SEAL, so on to the next epoch",
	meetsHole:      "%[1]s gets %[2]v: a hole",
	findsBegun:     "%[1]s looks for later headers: there is one",
	findsNotBegun:  "%[1]s looks for later headers: not there",
	getsAgain:      "%[1]s gets %[2]v again: not a hole any more",
	findsMissing:   "%[1]s gets %[2]v again: missing",
	findsDifferent: "%[1]s gets header %[2]v, which came another way",
	startsOver:     "%[1]s lists the checkpoints: a newer one, so start over from %[2]v",
	creates:        "%[1]s creates a SEAL at %[2]v",
	meetsTaken:     "%[1]s creates a SEAL at %[2]v: ErrExists",
	vanishes:       "%[1]s gets %[2]v: vanished",
	findsStart:     "%[1]s gets its start %[2]v again: still there",
	missesStart:    "%[1]s gets its start %[2]v again: deleted",
	findsTombstone: "%[1]s lists the tombstones: its start %[2]v is dead",
	listsClean:     "%[1]s lists the checkpoints again: no newer one, so it sends its header",
	owns:           "%[1]s hears that its header is durable: owner of epoch %[3]d",

	sends:           "%[1]s sends DATA %[2]v",
	hears:           "%[1]s hears that %[2]v is durable",
	sendsSave:       "%[1]s sends checkpoint %[2]v",
	hearsSave:       "%[1]s hears that checkpoint %[2]v is durable: no copy of it is under way",
	deletesSaves:    "%[1]s looks for a higher claim, and deletes the checkpoints before %[2]v",
	writesTombstone: "%[1]s creates tombstone %[2]v",
	truncates:       "%[1]s deletes the slots before %[2]v",
	drops:           "%[1]s sends DATA %[2]v, which drops the kept slot",
	removes:         "%[1]s removes the kept slot %[2]v",
	closes:          "%[1]s ends in good order, and sends CLOSING %[2]v",
	yields:          "%[1]s yields: it sends its own SEAL %[2]v",
	hearsYield:      "%[1]s hears that its own SEAL %[2]v is durable",
	confirms:        "%[1]s goes on under a higher claim",
	stepsDown:       "%[1]s steps down, and reads along from %[2]v",

	follows:        "%[1]s reads along from %[2]v",
	tails:          "%[1]s reads along: %[2]v",
	seesSeal:       "%[1]s reads along: a SEAL at %[2]v",
	believesList:   "%[1]s believes the SEAL at %[2]v: a List shows no checkpoint beyond",
	believesHeader: "%[1]s believes the SEAL at %[2]v: the next header agrees",
	reloads:        "%[1]s lists the checkpoints, and reloads from %[2]v",
	claimsStanding: "%[1]s, which stands at %[2]v, claims epoch %[3]d",
	replays:        "%[1]s begins a replay of the epochs below %[3]d",
	ends:           "%[1]s finds nothing that speaks against it, so the log ends at %[2]v",

	gives:        "%[1]s gives up",
	dies:         "%[1]s dies",
	meetsCorrupt: "%[1]s stops at %[2]v: ErrCorrupt",
	meetsForeign: "%[1]s stops at %[2]v: ErrForeign",

	claimsTaken:    "%[1]s creates claim %[3]d: ErrExists, counts as made",
	resumes:        "%[1]s restarts, and goes on under its claim %[3]d",
	passesHole:     "%[1]s gets %[2]v: a hole, so on to the next epoch",
	believesUnread: "%[1]s believes that %[2]v is a SEAL",
	headsEarly:     "%[1]s sends its header, with epochs not sealed from %[2]v on",
	ownsEarly:      "%[1]s sends its header, and is owner of epoch %[3]d",
	savesEarly:     "%[1]s sends checkpoint %[2]v, its header not being durable",
	reuses:         "%[1]s gets %[2]v: not there, says failed, and sends other bytes",
	assumes:        "%[1]s hears nothing of %[2]v, which counts as success",
	answers:        "%[1]s answers a duplicate of %[2]v, which is flying",
	adopts:         "%[1]s sends DATA %[2]v, which keeps the slot that was dropped",
}

// decides reports whether a process may rely on the step from then on, so that
// the state must be judged even where the reductions make it one that is known.
func (v verb) decides() bool {
	switch v {
	case headerLands, saveLands, hearsSave, owns, hears, yields, ends, tails, believesList, believesHeader, reloads,
		ownsEarly, assumes, answers, believesUnread:
		return true
	}
	return false
}

// action is a step as it is shown in a trace.
type action struct {
	verb  verb
	node  uint8
	epoch uint8
	pos   position
}

// tell describes a in words. Nodes have letters as names.
func (a action) tell(name string) string {
	pos := fmt.Sprintf("%d/%d", a.pos.epoch(), a.pos.slot())
	return fmt.Sprintf(texts[a.verb], name, pos, a.epoch)
}
