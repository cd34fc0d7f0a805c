package record

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// A few bytes may inflate to many. What a batch may hold decides how much of it is
// inflated at once, and how many batches are inflated at a time:
//
//   - up to tinyInflated: at once, into one buffer;
//   - up to lightInflated: into one buffer, half of the cores at most at a time;
//   - beyond that: one batch at a time in the whole program, as a stream of which no
//     more is in memory than the codec's window and, where the caller reads it,
//     one record.
//
// First come, first served. A batch that takes longer yields to other goroutines now and
// then.
const (
	tinyInflated  = 256 << 10
	lightInflated = 4 << 20
)

// The tokens are shared by the whole program, as buffers are: there is one memory.
var (
	lightTokens = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	heavyToken  = make(chan struct{}, 1)
	recodeToken = make(chan struct{}, 1)
)

var inflateWaits struct {
	count       atomic.Uint64
	nanoseconds atomic.Int64
}

// InflateWaits returns how often a batch had to wait before it was inflated, and for
// how long in all, since the program began.
func InflateWaits() (count uint64, total time.Duration) {
	return inflateWaits.count.Load(), time.Duration(inflateWaits.nanoseconds.Load())
}

// turn waits for a token and takes it; the caller gives it back by receiving.
func turn(tokens chan struct{}) {
	select {
	case tokens <- struct{}{}:
		return
	default:
	}
	began := time.Now()
	tokens <- struct{}{}
	inflateWaits.count.Add(1)
	inflateWaits.nanoseconds.Add(int64(time.Since(began)))
}

// mostInflated returns the most bytes that src can inflate to, going by its framing.
// For gzip it is a guess, since each member declares its size at its end. ok is false
// if the framing is invalid.
func (c Codec) mostInflated(src []byte) (n int64, ok bool) {
	switch c {
	case Gzip:
		return gzipGuess(src), true
	case Snappy:
		return snappyBound(src)
	case LZ4:
		return lz4Bound(src)
	case Zstd:
		return zstdBound(src)
	}
	return 0, false
}

// walking is how the records of a batch are walked.
type walking struct {
	maxInflated int
	bodies      bool // fn gets the bodies; if false, they are checked, and may be left out
	free        bool // up to lightInflated no token is needed: there is only one caller like this
	fn          func(entry) error
}

// inflated inflates records and walks them, in the way that fits their size.
func (b Batch) inflated(w walking) error {
	if w.free && w.maxInflated <= lightInflated {
		return b.inflatedAtOnce(w, w.maxInflated)
	}
	c, src := b.Codec(), []byte(b[HeaderSize:])
	most, ok := c.mostInflated(src)
	if !ok {
		most = 0 // the decoder says what is wrong
	}
	if most <= lightInflated {
		limit := lightInflated
		if most <= tinyInflated {
			limit = tinyInflated
		}
		err := b.inflatedAtOnce(w, limit)
		if err != errNotLight {
			return err
		}
	}
	turn(heavyToken)
	defer func() { <-heavyToken }()
	return b.inflatedAsStream(w)
}

// errNotLight: the records inflate to more than was expected. No record was passed on.
var errNotLight = errors.New("records are more than expected")

// inflatedAtOnce inflates all records into one buffer, up to limit bytes.
func (b Batch) inflatedAtOnce(w walking, limit int) error {
	if limit > tinyInflated && !w.free {
		turn(lightTokens)
		defer func() { <-lightTokens }()
	}
	buf := buffers.Get().(*buffer)
	defer buf.release()
	c := b.Codec()
	var err error
	buf.p, err = c.inflate(buf.p[:0], b[HeaderSize:], min(limit, w.maxInflated))
	switch {
	case errors.Is(err, ErrTooLarge) && limit < w.maxInflated:
		return errNotLight
	case err != nil:
		return fmt.Errorf("inflate %v records: %w", c, err)
	}
	return b.walkPlain(buf.p, w)
}

// inflatedAsStream inflates the records piece by piece.
func (b Batch) inflatedAsStream(w walking) error {
	c := b.Codec()
	pieces, err := c.pieces(b[HeaderSize:], w.maxInflated)
	if err != nil {
		return fmt.Errorf("inflate %v records: %w", c, err)
	}
	defer pieces.close()
	s := &stream{pieces: pieces, limit: int64(w.maxInflated)}
	err = b.walkStream(s, w)
	if s.err != nil { // which is why a record ended too early
		return fmt.Errorf("inflate %v records: %w", c, s.err)
	}
	return err
}

// Recode returns a batch with the records of b, compressed by another codec, and with
// its producer. Everything else in b's header is lost. The result belongs to the
// caller. It does not look at the CRC.
//
// Errors: those of VerifyRecords, and of Builder.Append and Build.
func Recode(b Batch, c Codec, maxInflated int) (Batch, error) {
	if err := b.VerifyHeader(); err != nil {
		return nil, err
	}
	if most, _ := b.Codec().mostInflated(b[HeaderSize:]); most > lightInflated || b.Codec() == Gzip {
		turn(recodeToken) // what is built is as large as what is inflated
		defer func() { <-recodeToken }()
	}
	builder := NewBuilder(c)
	if b.ProducerID() >= 0 {
		builder.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	}
	err := b.walkDense(walking{maxInflated: maxInflated, bodies: true, fn: func(e entry) error {
		return builder.appendEntry(b.BaseTimestamp()+e.timestampDelta, e.body)
	}})
	if err != nil {
		return nil, err
	}
	return builder.Build()
}
