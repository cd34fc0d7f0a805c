//go:build weirtest

package cluster

import "testing"

// TestRulesOfPlacement: without any one of the rules, a scenario does not keep its bounds.
func TestRulesOfPlacement(t *testing.T) {
	all := scenarios()
	for name, s := range further() {
		all[name] = s
	}
	for name, c := range map[string]struct {
		without  mutations
		scenario string
	}{
		"1 push only":          {mutations{PullShards: true}, "join"},
		"2 from the claim":     {mutations{SilenceFromAnswer: true}, "slow recovery"},
		"3 rank":               {mutations{Rankless: true}, "start"},
		"4 second opinion":     {mutations{NoOpinion: true}, "pair"},
		"5 witness":            {mutations{NoWitness: true}, "island"},
		"6 patience":           {mutations{NoPatience: true}, "stutter"},
		"7 says so":            {mutations{MuteDenies: true}, "pair, one starts again"},
		"8 my own former life": {mutations{OwnNameOnly: true}, "unable"},
		"9 a closed house":     {mutations{ClosedUnseen: true}, "all stop, others start"},
		"10 roles":             {mutations{Roleless: true}, "roles, start"},
		"11 revocation":        {mutations{TrustRevoked: true}, "revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			s := all[c.scenario]
			s.mutated = c.without
			for seed := range uint64(6) {
				if faults := s.run(t, 4, 16, seed); len(faults) > 0 {
					t.Log(faults)
					return
				}
			}
			t.Errorf("%q does not need the rule", c.scenario)
		})
	}
}

// TestLostQuestionNeedsRule: an object that is gone is not enough.
func TestLostQuestionNeedsRule(t *testing.T) {
	if lostQuestion(t, mutations{TrustObject: true}) == 0 {
		t.Error("a lost question does not need the rule")
	}
}

// TestHandOverNeedsRules: without any one of its rules, a hand-over leaves a shard without an
// owner for longer.
func TestHandOverNeedsRules(t *testing.T) {
	for name, c := range map[string]struct {
		without  mutations
		handover string
	}{
		"the log is read before the owner ends it": {mutations{CloseFirst: true}, "nothing happens"},
		"the owner looks for the claim":            {mutations{ClaimUnseen: true}, "it dies with its claim"},
		"the successor does not wait for ever":     {mutations{NeverTakes: true}, "the owner dies behind the claim"},
	} {
		t.Run(name, func(t *testing.T) {
			h := handovers()[c.handover]
			h.mutated = c.without
			for seed := range uint64(6) {
				if faults := h.run(t, seed); len(faults) > 0 {
					t.Log(faults)
					return
				}
			}
			t.Errorf("%q does not need the rule", c.handover)
		})
	}
}
