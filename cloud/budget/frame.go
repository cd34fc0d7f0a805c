package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/weirmq/weir/storage/freelist"
)

// Frame says how to read the rest of a frame whose length is known. The zero value
// can be used.
type Frame struct {
	Whole time.Duration // time for all of it to arrive; default: 30 s
	Floor int           // bytes per second, measured over a Piece: a slower peer gets ErrSlow; default: 8 KiB/s

	// Buffers, if set, provides the memory for the frame: a buffer that was kept and has
	// room for all of it, or else buffers that are each twice as large as the one before.
	// The caller puts back what Read returns.
	Buffers *freelist.List
}

// Piece is how many bytes are paid for before the first byte is read. After that,
// each step pays for as many bytes as have arrived, and for a Piece at least. Floor
// is measured over a Piece.
const Piece = 64 << 10

// ErrSlow means that the rest of a frame did not arrive in time.
var ErrSlow = errors.New("message stopped arriving")

// patience is how long a peer may take for the next Piece when others wait for the
// memory that it holds.
const patience = time.Second

// Read reads the next size bytes of r and pays for them with claim. deadline sets the
// deadline of the connection that r reads from. Read allocates and pays in steps: for
// what has arrived, and as much again for what comes next, a Piece at least. It fails
// with ErrSlow if the peer is slower than Floor, or if others wait for memory that is
// held by unfinished frames and the peer sends less than a Piece per second. Time spent
// waiting for the claim is not counted against the peer. When Read succeeds, the claim
// counts as arrived and there is no deadline.
//
// After an error the caller still has to release the claim. Errors: ErrSlow, those of
// Claim.Grow, of r, and of deadline; io.ErrUnexpectedEOF if the frame is cut short.
func (f Frame) Read(ctx context.Context, deadline func(time.Time) error, r io.Reader, claim *Claim, size int) ([]byte, error) {
	left := cmp.Or(f.Whole, 30*time.Second)
	p := f.Buffers.Kept(size) // it is there already, so it costs nothing that was not paid for
	for len(p) < size {
		n := min(max(Piece, len(p)), size-len(p))
		if err := claim.Grow(ctx, int64(n)); err != nil {
			return p, err
		}
		if cap(p)-len(p) < n {
			next := append(f.Buffers.Get(len(p)+n), p...)
			f.Buffers.Put(p)
			p = next
		}
		for end := len(p) + n; len(p) < end; {
			began := time.Now()
			got, err := f.piece(deadline, r, claim, p[len(p):min(len(p)+Piece, end)], left)
			p = p[:len(p)+got]
			left -= time.Since(began)
			switch {
			case errors.Is(err, ErrSlow):
				return p, fmt.Errorf("%w: %d of %d bytes have arrived", err, len(p), size)
			case errors.Is(err, io.EOF) && len(p) > 0:
				return p, io.ErrUnexpectedEOF
			case err != nil:
				return p, err
			}
		}
	}
	claim.Arrived()
	return p, deadline(time.Time{})
}

// piece fills p. The peer has the time left for that, and less if it is slow.
func (f Frame) piece(deadline func(time.Time) error, r io.Reader, claim *Claim, p []byte, left time.Duration) (n int, err error) {
	began := time.Now()
	most := min(left, max(patience, Piece*time.Second/time.Duration(cmp.Or(f.Floor, 8<<10))))
	for {
		if err := deadline(time.Now().Add(min(patience, most-time.Since(began)))); err != nil {
			return n, err
		}
		got, err := io.ReadFull(r, p[n:])
		n += got
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			return n, io.EOF
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case time.Since(began) >= most || claim.pressed():
			return n, ErrSlow
		}
	}
}
