package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// op is a kind of event.
type op int

const (
	opPublish   op = iota // readings are accepted, most of them durably
	opSync                // what was accepted and not durable becomes so
	opKill                // the gateway dies; un-synced readings survive or do not
	opBoot                //
	opCut                 // the link breaks; what is in flight is lost or arrives late
	opNet                 // the network goes away, or comes back
	opNodeKill            // the owner dies; its PUTs land now, later or never
	opNodeStart           // a node starts and takes over
	opLand                // a PUT of a dead or patient node lands
	opWait                // nothing happens for a while

	opSlow     // rare events from here on: the bucket and the link change pace
	opTrouble  // the bucket fails at random, and the cloud refuses for now; or it heals
	opGrow     // a topic gets a partition
	opRecreate // a topic is deleted and created again
	opBackup   // an image of the card is taken
	opRestore  // the gateway comes back with that image
	opDamage   // records are damaged, while the gateway is off
	opAge      // more buffers come and go than the cloud remembers
	opBad      // readings that the cloud refuses for good
	ops

	opPath // the path between a door and an owner breaks, in schedules of several shards
	opKeep // an owner, or one that believes that it is, begins a pass of upkeep; keep draws it
)

func (o op) String() string {
	return [...]string{"publish", "sync", "kill", "boot", "cut", "net", "nodeKill", "nodeStart", "land", "wait",
		"slow", "trouble", "grow", "recreate", "backup", "restore", "damage", "age", "bad", opPath: "path", opKeep: "keep"}[o]
}

// weights are how often each event comes, if it is part of the schedule.
var weights = [ops]int{
	opPublish: 26, opSync: 4, opKill: 4, opBoot: 7, opCut: 7, opNet: 3, opNodeKill: 5, opNodeStart: 6, opLand: 3, opWait: 5,
	opSlow: 4, opTrouble: 3, opGrow: 4, opRecreate: 2, opBackup: 4, opRestore: 4, opDamage: 4, opAge: 1, opBad: 5,
}

// chance is in how many of a hundred schedules each rare event takes part.
var chance = [ops]int{
	opSlow: 60, opTrouble: 30, opGrow: 30, opRecreate: 15, opBackup: 30, opRestore: 30, opDamage: 25, opAge: 2, opBad: 30,
}

// act is one event of a schedule.
type act struct {
	op   op
	a, b uint32        // what the event makes of them
	wait time.Duration // afterwards
}

func (a act) String() string {
	return fmt.Sprintf("%v(%d,%d)+%v", a.op, a.a%1000, a.b%1000, a.wait)
}

// schedule is all that a seed stands for.
type schedule struct {
	seed     uint64
	gateways int
	addrs    int
	window   int
	batch    int
	frame    int           // items per read of the simulated card
	pace     time.Duration // of link and bucket at the start
	restart  bool          // before the end the gateways are restarted once more
	segment  int           // bytes that the upkeep aims at
	adopt    int           // bytes of a run that stays in its slot; 0: as in production
	several  bool          // there are several shards: see shards_test.go
	acts     []act
	trace    bool // note what happens
}

func (s schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d gateways, %d nodes, window %d, batch %d, frame %d, pace %v, restart %v, segment %d, adopt %d:", s.seed, s.gateways, s.addrs, s.window, s.batch, s.frame, s.pace, s.restart, s.segment, s.adopt)
	if s.several {
		b.WriteString(" several shards:")
	}
	for _, a := range s.acts {
		fmt.Fprintf(&b, " %v", a)
	}
	return b.String()
}

// draw makes the schedule of a seed. only lists the rare events that may take
// part; nil: all of them.
func draw(seed uint64, only []op) schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := schedule{
		seed: seed, gateways: 1, addrs: 1,
		window: 1 << (9 + rng.IntN(8)), batch: 1 << (8 + rng.IntN(8)), frame: 1 + rng.IntN(12),
		pace:    []time.Duration{0, time.Millisecond, 8 * time.Millisecond}[rng.IntN(3)],
		restart: rng.IntN(2) == 0,
	}
	if rng.IntN(5) == 0 {
		s.gateways = 2
	}
	if rng.IntN(3) == 0 {
		s.addrs = 2
	}
	odds := weights
	for o := opSlow; o < ops; o++ {
		if only == nil && rng.IntN(100) >= chance[o] || only != nil && !slices.Contains(only, o) {
			odds[o] = 0
		}
		if only != nil {
			odds[o] *= 2
		}
	}
	odds[opBackup] = odds[opRestore] // one is nothing without the other
	total := 0
	for _, w := range odds {
		total += w
	}
	waits := []time.Duration{0, 0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond}
	for range 8 + rng.IntN(45) {
		v, o := rng.IntN(total), op(0)
		for v >= odds[o] {
			v -= odds[o]
			o++
		}
		s.acts = append(s.acts, act{o, rng.Uint32(), rng.Uint32(), waits[rng.IntN(len(waits))]})
	}
	s.keep(rand.New(rand.NewPCG(seed, 2)))
	return s
}

// drawSeveral is draw for a schedule of several shards. Topics are not deleted in it.
func drawSeveral(seed uint64, only []op) schedule {
	s := draw(seed, only)
	s.several, s.addrs = true, 2
	rng := rand.New(rand.NewPCG(seed, 5))
	acts := s.acts
	s.acts = nil
	for _, a := range acts {
		if a.op != opRecreate && a.op != opAge {
			s.acts = append(s.acts, a)
		}
		if rng.IntN(8) == 0 {
			s.acts = append(s.acts, act{[]op{opPath, opNodeStart, opNodeKill}[rng.IntN(3)], rng.Uint32(), rng.Uint32(), time.Duration(rng.IntN(20)) * time.Millisecond})
		}
	}
	return s
}

// keep puts upkeep into four of five schedules. The other events stay as they are:
// the seeds from which mutations count are those without upkeep, too.
func (s *schedule) keep(rng *rand.Rand) {
	s.segment = 1 << (9 + rng.IntN(6))
	s.adopt = []int{0, 1, 300}[s.seed%3]
	if rng.IntN(5) == 0 {
		return
	}
	often := 2 + rng.IntN(8)
	acts := s.acts
	s.acts = nil
	for _, a := range acts {
		s.acts = append(s.acts, a)
		if rng.IntN(often) == 0 {
			s.acts = append(s.acts, act{op: opKeep, a: rng.Uint32()})
		}
	}
}

// shrink takes events away as long as run still fails in the same way. The
// same schedule may run differently each time, so each try is made often.
func shrink(s schedule, verdict string, run func(schedule) error) schedule {
	fails := func(t schedule) bool {
		for range 6 {
			if err := run(t); err != nil && kindOf(err) == verdict {
				return true
			}
		}
		return false
	}
	for size := len(s.acts) / 2; size >= 1; size /= 2 {
		for i := 0; i+size <= len(s.acts); {
			t := s
			t.acts = slices.Concat(s.acts[:i], s.acts[i+size:])
			if fails(t) {
				s = t
			} else {
				i += size
			}
		}
	}
	for _, simpler := range []func(*schedule){
		func(t *schedule) { t.gateways = 1 }, func(t *schedule) { t.addrs = 1 }, func(t *schedule) { t.restart = false },
		func(t *schedule) { t.pace = 0 },
	} {
		t := s
		if simpler(&t); fails(t) {
			s = t
		}
	}
	return s
}
