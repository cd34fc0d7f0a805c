package split

import (
	"fmt"
	"strings"
	"time"
)

// Seen is what the owner of the catalogue sees of its cluster when it decides whether shards
// are to be split.
type Seen struct {
	Data     int           // shards that have data
	Logs     int           // live nodes that can own them, and do not hand theirs over
	Silent   []string      // names of nodes that are known and do not answer
	Draining []string      // and of those that hand their shards over
	Unserved int           // shards that no live node serves now: they move, or are recovered
	Moving   bool          // slices move
	Same     time.Duration // for how long the same nodes have been there
	Failed   string        // why the last split has not made all its moves; "": it has, or there was none
}

// mostPause is how many times the first pause between two splits the longest is.
const mostPause = 20

// Pause returns the pause after a split that is about to begin, of which the one before was
// the pause before it. As long as splits fail it becomes longer each time: each one stops
// transactions for a while.
func (s Seen) Pause(before, first time.Duration) time.Duration {
	if s.Failed == "" {
		return first
	}
	return min(2*before, mostPause*first)
}

// Auto returns how many shards are to have data next so that each node that can own data
// gets some; 0: nothing is to be done now. why says what that depends on. Nodes must have
// been the same for the time stable.
//
// The first split makes as many as there are nodes, because the slices of shard 0 are dealt
// out evenly. Later ones make one more each.
func Auto(s Seen, stable time.Duration) (data int, why string) {
	why = fmt.Sprintf("%d with data for %d nodes with the role log", s.Data, s.Logs)
	if s.Logs <= s.Data {
		return 0, why
	}
	switch {
	case s.Moving:
		return 0, why + ": waits for slices that move"
	case len(s.Silent) > 0:
		return 0, why + ": waits for nodes that do not answer: " + strings.Join(s.Silent, ", ")
	case len(s.Draining) > 0:
		return 0, why + ": waits for nodes that hand their shards over: " + strings.Join(s.Draining, ", ")
	case s.Unserved > 0:
		return 0, fmt.Sprintf("%s: waits until all shards are served, and %d are not", why, s.Unserved)
	case s.Same < stable:
		return 0, fmt.Sprintf("%s: waits until the nodes have been the same for %s", why, strings.TrimSuffix(stable.String(), "0s"))
	}
	if s.Failed != "" {
		why += ": the last attempt has failed, and there will be another one: " + s.Failed
	}
	if s.Data == 1 {
		return s.Logs, why
	}
	return s.Data + 1, why
}
