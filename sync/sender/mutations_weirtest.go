//go:build weirtest

package sender

import (
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// Mutations break single rules of the protocol, so that a model test can show
// that it notices. They are there in a build with the tag weirtest only.
type Mutations struct {
	OwnBelief    bool // start a session behind what was sent before it, not from the marks
	TodaysCount  bool // partition by today's count, not by the map table
	NoBarrier    bool // send a new row's records before everything before it is acked
	TrimAcked    bool // trim up to the highest ack instead of below the smallest record without one
	NextBuffer   bool // begin a lane's next buffer before the one before is acked
	KeepOnRefuse bool // on a refusal go on from what was sent, not from the mark
	EarlyGap     bool // send a gap before everything below it is settled
	NoGap        bool // put records into the dead letters without a gap
	NoHold       bool // send what follows dead letters before their gap is acked
	ForgetRows   bool // go by the gateway's map table alone, whatever the cloud knows of it
	SendAside    bool // send buffers that the cloud set aside
}

func ownBelief(m Mutations) bool    { return m.OwnBelief }
func todaysCount(m Mutations) bool  { return m.TodaysCount }
func noBarrier(m Mutations) bool    { return m.NoBarrier }
func trimAcked(m Mutations) bool    { return m.TrimAcked }
func nextBuffer(m Mutations) bool   { return m.NextBuffer }
func keepOnRefuse(m Mutations) bool { return m.KeepOnRefuse }
func earlyGap(m Mutations) bool     { return m.EarlyGap }
func noGap(m Mutations) bool        { return m.NoGap }
func noHold(m Mutations) bool       { return m.NoHold }
func forgetRows(m Mutations) bool   { return m.ForgetRows }
func sendAside(m Mutations) bool    { return m.SendAside }

// beliefs is what Mutations.OwnBelief needs: what was sent, in any session.
type beliefs struct {
	mu   sync.Mutex
	sent map[weir.BufferID][]weir.Mark // guarded by mu
}

// add notes that a batch was sent that moves a mark to m.
func (b *beliefs) add(m weir.Mark) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent == nil {
		b.sent = make(map[weir.BufferID][]weir.Mark)
	}
	b.sent[m.Buffer] = append(b.sent[m.Buffer], m)
}

// of returns what was sent of a buffer; false: nothing was.
func (b *beliefs) of(id weir.BufferID) ([]weir.Mark, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent, ok := b.sent[id]
	return slices.Clone(sent), ok
}
