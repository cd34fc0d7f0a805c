//go:build weirtest

package model

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
)

// mutation is one rule that is taken away, and the rare events without which
// nobody would miss it.
type mutation struct {
	name      string
	mutations mutations
	only      []op
	from      uint64 // the seed to begin with outside a soak: those before it notice nothing
	several   bool   // in schedules of several shards
}

func ofSender(name string, m sender.Mutations, only ...op) mutation {
	return mutation{"sender/" + name, mutations{sender: m}, only, 1, false}
}

func ofReceiver(name string, m receiver.Mutations, only ...op) mutation {
	return mutation{"receiver/" + name, mutations{receiver: m}, only, 1, false}
}

func ofLog(name string, m commitlog.Mutations, only ...op) mutation {
	return mutation{"log/" + name, mutations{log: m}, only, 1, false}
}

func ofCard(name string, m cardMutations, only ...op) mutation {
	return mutation{"card/" + name, mutations{card: m}, only, 1, false}
}

func ofCloud(name string, m cloudMutations, only ...op) mutation {
	return mutation{"cloud/" + name, mutations{cloud: m}, only, 1, false}
}

func ofUplink(name string, m uplink.Mutations, only ...op) mutation {
	return mutation{"uplink/" + name, mutations{uplink: m}, only, 1, true}
}

// begin sets the seed to begin with.
func (m mutation) begin(seed uint64) mutation {
	m.from = seed
	return m
}

// unshielded takes the receiver's KeepOlder away too. With it a session begins
// only when nothing of an older one is in flight, and a rule of the log about
// slots in flight is the second lock on the same door: nobody would miss it. In
// the schedules of these rows nobody misses KeepOlder either: TestShield.
func (m mutation) unshielded() mutation {
	m.mutations.receiver.KeepOlder = true
	m.mutations.uplink = uplink.Mutations{KeepOlder: true, EarlyMarks: true}
	return m
}

// unremembered takes away that the cloud gives rows back: with it a row that is
// lost on the gateway is as good as never lost. Without it alone nobody misses it
// as long as no row is lost: TestShield.
func (m mutation) unremembered() mutation {
	m.mutations.sender.ForgetRows = true
	return m
}

var allMutations = []mutation{
	ofSender("OwnBelief", sender.Mutations{OwnBelief: true}, opSlow),
	ofSender("TodaysCount", sender.Mutations{TodaysCount: true}, opSlow, opGrow),
	ofSender("NoBarrier", sender.Mutations{NoBarrier: true}, opSlow, opTrouble, opGrow),
	ofSender("TrimAcked", sender.Mutations{TrimAcked: true}, opSlow, opTrouble),
	ofSender("NextBuffer", sender.Mutations{NextBuffer: true}, opSlow),
	ofSender("KeepOnRefuse", sender.Mutations{KeepOnRefuse: true}, opSlow, opTrouble),
	ofSender("EarlyGap", sender.Mutations{EarlyGap: true}, opSlow, opDamage, opBad),
	ofSender("NoGap", sender.Mutations{NoGap: true}, opSlow, opBad),
	ofSender("NoHold", sender.Mutations{NoHold: true}, opSlow, opTrouble, opBad),
	ofSender("ForgetRows", sender.Mutations{ForgetRows: true}, opSlow, opBackup, opRestore, opGrow),
	ofSender("SendAside", sender.Mutations{SendAside: true}, opBackup, opRestore, opAge),

	ofReceiver("AckEarly", receiver.Mutations{AckEarly: true}, opSlow),
	{"receiver/KeepOlder", mutations{receiver: receiver.Mutations{KeepOlder: true}, uplink: uplink.Mutations{KeepOlder: true, EarlyMarks: true}}, []op{opSlow, opTrouble, opDamage, opBad}, 1, false},
	ofReceiver("MarkAtOnce", receiver.Mutations{MarkAtOnce: true}, opSlow, opTrouble),

	ofLog("NoPrev", commitlog.Mutations{NoPrev: true}, opSlow, opTrouble),
	ofLog("DurableMarks", commitlog.Mutations{DurableMarks: true}, opSlow).unshielded(),
	ofLog("AckFlying", commitlog.Mutations{AckFlying: true}, opSlow),
	ofLog("AckDuplicate", commitlog.Mutations{AckDuplicate: true}, opSlow).unshielded().begin(600),
	ofLog("PromiseMarks", commitlog.Mutations{PromiseMarks: true}, opSlow).unshielded(),
	ofLog("KeepFirstRow", commitlog.Mutations{State: state.Mutations{KeepFirstRow: true}}, opSlow, opDamage, opGrow).begin(700),
	ofLog("KeepNoTombs", commitlog.Mutations{State: state.Mutations{KeepNoTombs: true}}, opBackup, opRestore),
	ofLog("ForgottenIsNew", commitlog.Mutations{State: state.Mutations{ForgottenIsNew: true}}, opBackup, opRestore, opAge),

	ofUplink("NotTold", uplink.Mutations{NotTold: true}, opSlow),
	ofUplink("FirstMarks", uplink.Mutations{FirstMarks: true}, opSlow, opBackup, opRestore, opBad),

	ofCard("ReuseBuffer", cardMutations{ReuseBuffer: true}, opBackup, opRestore, opDamage),
	ofCard("ReuseBuffer+ReadAhead", cardMutations{ReuseBuffer: true, ReadAhead: true}, opSlow),
	ofCard("LooseRows", cardMutations{LooseRows: true}, opSlow, opGrow).unremembered(),
	ofCard("LooseGraves", cardMutations{LooseGraves: true}, opBad),

	ofCloud("TopicByName", cloudMutations{TopicByName: true}, opSlow, opRecreate),
	ofCloud("SilentOwner", cloudMutations{SilentOwner: true}, opSlow),
	ofCloud("Overwrites", cloudMutations{Overwrites: true}, opSlow),
}

// TestShield is the control of the mutations that take two rules away: without
// the second one alone their schedules stay sound.
func TestShield(t *testing.T) {
	for _, c := range []struct {
		mutations mutations
		only      []op
	}{
		{mutations{receiver: receiver.Mutations{KeepOlder: true}, uplink: uplink.Mutations{KeepOlder: true, EarlyMarks: true}}, []op{opSlow}},
		{mutations{sender: sender.Mutations{ForgetRows: true}}, []op{opSlow, opGrow}},
	} {
		for i := range uint64(500) {
			s := draw(i+1, c.only)
			if _, err := run(t, s, c.mutations, simulated); err != nil {
				t.Fatalf("%+v: seed %d: %v", c.mutations, s.seed, err)
			}
		}
	}
}

// mostSchedules is how many may pass before a rule counts as not tested.
const mostSchedules = 20_000

// TestMutations takes one rule away at a time: the schedules must notice.
func TestMutations(t *testing.T) {
	seed, one := seedOf(t)
	for _, m := range allMutations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			began, base := time.Now(), m.from
			if os.Getenv("WEIR_SOAK") == "1" {
				base = rand.Uint64()
			}
			for i := range uint64(mostSchedules) {
				draw := draw
				if m.several {
					draw = drawSeveral
				}
				s := draw(base+i, m.only)
				if one {
					s = draw(seed, m.only)
				}
				if _, err := run(t, s, m.mutations, simulated); err != nil {
					t.Logf("noticed by schedule %d (WEIR_SEED=%d) after %v: %v", i+1, s.seed, time.Since(began).Round(time.Millisecond), err)
					return
				}
			}
			t.Errorf("%d schedules did not notice that the rule is missing", mostSchedules)
		})
	}
}
