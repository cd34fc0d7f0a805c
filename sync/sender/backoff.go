package sender

import (
	"math/rand/v2"
	"time"
)

// Pauses between two attempts. What only a person can fix is tried rarely, but it is
// tried: a gateway must recover without a restart.
const (
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 5 * time.Second  // no link
	maxForeign  = 30 * time.Second // another cloud answers
	minRefused  = 5 * time.Second  // our cloud refuses
	maxRefused  = 5 * time.Minute
	stableAfter = maxBackoff // a session that lasts this long resets the pause
)

// backoff is the pause between two attempts. It doubles each time and is jittered, so
// that ten thousand gateways do not reconnect at the same moment.
type backoff struct{ d time.Duration }

func (b *backoff) next(lowest, highest time.Duration) time.Duration {
	b.d = min(max(2*b.d, lowest), highest)
	return b.d/2 + rand.N(b.d/2)
}

func (b *backoff) reset() { b.d = 0 }

// slow sets the next pause to the longest one for a link that is down.
func (b *backoff) slow() { b.d = max(b.d, maxBackoff) }
