package budget

import (
	"context"
	"errors"
	"time"
)

// ErrUnread is why a connection was closed: see Pool.Police.
var ErrUnread = errors.New("client does not read what is written to it, and others wait for the memory")

// Unread is how long a client may take nothing while others wait for memory.
const Unread = 3 * time.Second

// Police calls closeStuck each second in which somebody waits for memory of the pool, until
// ctx ends. closeStuck closes the connections that have waited since before or longer for
// their clients to read.
func (p *Pool) Police(ctx context.Context, closeStuck func(before time.Time)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if p.Waiting() > 0 {
			closeStuck(time.Now().Add(-Unread))
		}
	}
}
