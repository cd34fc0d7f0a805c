package receiver

import (
	"context"
	"time"
)

// Guard limits what peers may take of the node: memory, connections, wrong tokens, log
// lines. An addr is a host and port.
type Guard interface {
	// Memory returns a gateway's share of the memory for frames that arrive or that the
	// log has not answered yet. It is closed when the session ends.
	Memory(gateway string) Share
	// Stranger takes a seat for a connection of a peer without a certificate. If there
	// are too many later, give is called and must close the connection.
	Stranger(addr string, give func()) (Seat, error)
	// Pause returns for how long no token is accepted from an address.
	Pause(addr string) time.Duration
	// Wrong counts a wrong token from an address.
	Wrong(addr string)
	// MayLog reports whether a line about an address may be written, and how many were
	// suppressed before it. The limit is lower for strangers.
	MayLog(addr string, stranger bool) (ok bool, unlogged int)
}

// Share is one gateway's part of the memory.
type Share interface {
	// Take waits for the bytes of a frame of which enough has arrived. With an error,
	// the Memory holds nothing.
	Take(ctx context.Context, n int64) (Memory, error)
	Close()
}

// Memory is what one frame holds of the memory of all sessions.
type Memory interface {
	// Release gives everything back; only the first call counts.
	Release()
}

// Seat is the place of a stranger's connection.
type Seat interface {
	Heard() // the peer has sent its request
	Leave()
}

// plain is the guard of a receiver without one: memory for all sessions, and seats for
// a few strangers.
type plain struct {
	memory *budget
	seats  chan struct{}
}

func newPlain(bytes int64) plain {
	return plain{memory: newBudget(bytes), seats: make(chan struct{}, maxJoins)}
}

func (p plain) Memory(string) Share { return plainShare{p.memory} }

func (p plain) Stranger(string, func()) (Seat, error) {
	select {
	case p.seats <- struct{}{}:
		return plainSeat{p.seats}, nil
	default:
		return nil, ErrBusy
	}
}

func (plain) Pause(string) time.Duration      { return 0 }
func (plain) Wrong(string)                    {}
func (plain) MayLog(string, bool) (bool, int) { return true, 0 }

type plainSeat struct{ seats chan struct{} }

func (plainSeat) Heard()   {}
func (s plainSeat) Leave() { <-s.seats }

type plainShare struct{ memory *budget }

func (s plainShare) Take(ctx context.Context, n int64) (Memory, error) {
	held, err := s.memory.acquire(ctx, n)
	return &plainMemory{s.memory, held}, err
}

func (plainShare) Close() {}

type plainMemory struct {
	memory *budget
	held   int64
}

func (c *plainMemory) Release() {
	if c.held > 0 {
		c.memory.give(c.held)
		c.held = 0
	}
}
