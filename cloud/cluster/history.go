package cluster

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// memory is for how long a takeover increases the patience of standbys.
	memory = 10 * time.Minute
	// maxDoublings bounds the patience: 64 times the takeover time.
	maxDoublings = 6
	// maxTakeovers bounds the takeovers listed in a claim.
	maxTakeovers = 16
)

// Takeover records that a standby took the shard from a silent owner. A claim lists
// recent ones, so that a node that has just started knows of them. They decide only
// how long a node waits.
type Takeover struct {
	Epoch   uint64 `json:"epoch"`             // of the owner that lost the shard
	At      int64  `json:"at"`                // Unix time in seconds, by the clock of the node that took over
	Refused bool   `json:"refused,omitempty"` // the owner's host refused connections, and the patience was not doubled for that reason
	Boot    string `json:"boot,omitempty"`    // with Refused: that of the owner; "": not known
}

// Moved reports whether the claim of n lists a takeover within the time ago, by this
// machine's clock.
func (n Node) Moved(ago time.Duration) bool {
	for _, t := range n.Takeovers {
		if time.Since(time.Unix(t.At, 0)) < ago {
			return true
		}
	}
	return false
}

// history is the takeovers that a node knows of, by the epoch that ended.
type history struct {
	taken map[uint64]taken
}

type taken struct {
	at      time.Time // with this process's monotonic clock
	refused bool
	boot    string // with refused: of the owner
}

func newHistory() *history { return &history{taken: make(map[uint64]taken)} }

// learn adds the takeovers of a claim. If the other node's clock is ahead of ours, a
// takeover counts from the moment in which we learn of it.
func (h *history) learn(all []Takeover) {
	now := time.Now()
	for _, t := range all[:min(len(all), maxTakeovers)] {
		if _, known := h.taken[t.Epoch]; known {
			continue
		}
		age := max(now.Sub(time.Unix(t.At, 0)), 0)
		if age < memory {
			h.taken[t.Epoch] = taken{now.Add(-age), t.Refused, t.Boot}
		}
	}
}

// sees records a takeover that this node has seen happen.
func (h *history) sees(epoch uint64) {
	if _, known := h.taken[epoch]; !known {
		h.taken[epoch] = taken{at: time.Now()}
	}
}

// takes records that this node is about to take over from an owner with that boot.
func (h *history) takes(epoch uint64, refused bool, boot string) {
	t := taken{at: time.Now(), refused: refused && !h.skipped(boot)}
	if t.refused {
		t.boot = boot
	}
	h.taken[epoch] = t
}

// recent forgets old takeovers and returns the others.
func (h *history) recent() map[uint64]taken {
	maps.DeleteFunc(h.taken, func(_ uint64, t taken) bool { return time.Since(t.at) >= memory })
	return h.taken
}

// skipped reports whether any node has recently relied on a refused connection to the
// process with that boot. A process that has lost the shard so is cut off from others: it
// gets the shard again only when they reach it.
func (h *history) skipped(boot string) bool {
	for _, t := range h.recent() {
		if t.refused && (t.boot == boot || t.boot == "") {
			return true
		}
	}
	return false
}

// patience returns how long to wait for a silent owner: twice as long for each
// takeover in the last ten minutes. dead means that its host refuses connections: the
// process is gone, or a firewall refuses them. That shortens the wait only once for each
// process, which its boot identifies.
func (h *history) patience(takeover time.Duration, dead bool, boot string) time.Duration {
	if dead && !h.skipped(boot) {
		return takeover
	}
	return takeover << min(len(h.recent()), maxDoublings)
}

// claimant returns self with the recent takeovers for its claim, the newest last.
func (h *history) claimant(self Node) Node {
	now := time.Now()
	self.Takeovers = nil
	for epoch, t := range h.recent() {
		self.Takeovers = append(self.Takeovers, Takeover{epoch, now.Add(-now.Sub(t.at)).Unix(), t.refused, t.boot})
	}
	slices.SortFunc(self.Takeovers, func(a, b Takeover) int { return cmp.Compare(a.Epoch, b.Epoch) })
	self.Takeovers = self.Takeovers[max(0, len(self.Takeovers)-maxTakeovers):]
	return self
}
