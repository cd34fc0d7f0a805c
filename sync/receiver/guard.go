package receiver

import (
	"context"
	"time"
)

// Guard is what the node allows those who dial it: memory, connections, tries at a
// token, log lines. An addr is a host and port.
type Guard interface {
	// Memory returns the share that a gateway has of the memory for frames on
	// their way to the log. It is closed when the session ends.
	Memory(gateway string) Share
	// Stranger seats a connection of somebody who has no certificate. When there
	// are too many, give may be called later, which must close it.
	Stranger(addr string, give func()) (Seat, error)
	// Pause returns for how long no token is accepted from an address.
	Pause(addr string) time.Duration
	// Wrong counts a token from an address that there is not.
	Wrong(addr string)
	// MayLog reports whether a line about an address is to be written, and how
	// many were not before it. Less is said about strangers.
	MayLog(addr string, stranger bool) (ok bool, unlogged int)
}

// Share is one gateway's part of the memory.
type Share interface {
	// Take waits for the bytes of a frame of which enough has arrived. The memory
	// of an error holds nothing.
	Take(ctx context.Context, n int64) (Memory, error)
	Close()
}

// Memory is what one frame holds of the memory of all sessions.
type Memory interface {
	// Release gives everything back; only the first call counts.
	Release()
}

// Seat is what the connection of a stranger takes.
type Seat interface {
	Heard() // it has sent its request
	Leave()
}

// plain is the guard of a receiver that is given none: memory for all, places
// for a few strangers.
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
