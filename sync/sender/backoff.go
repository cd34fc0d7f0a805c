package sender

import (
	"math/rand/v2"
	"time"
)

// Pauses between two attempts. What only a person can mend is tried rarely, but
// it is tried: nobody walks to a gateway to restart it.
const (
	minBackoff  = 100 * time.Millisecond
	maxBackoff  = 5 * time.Second  // no link
	maxForeign  = 30 * time.Second // a stranger answers
	minRefused  = 5 * time.Second  // the cloud itself says no
	maxRefused  = 5 * time.Minute
	stableAfter = maxBackoff // a session that lasted so long ends a row of attempts
)

// backoff is the pause between two attempts: doubled each time, and jittered,
// so that ten thousand gateways do not come back in step.
type backoff struct{ d time.Duration }

func (b *backoff) next(lowest, highest time.Duration) time.Duration {
	b.d = min(max(2*b.d, lowest), highest)
	return b.d/2 + rand.N(b.d/2)
}

func (b *backoff) reset() { b.d = 0 }

// slow makes the next pause the longest of a link that is down.
func (b *backoff) slow() { b.d = max(b.d, maxBackoff) }
