package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// maxProblems bounds a Report: one lost slot can break a rule a million times.
const maxProblems = 1000

// Report is what Check found.
type Report struct {
	Shards     uint32        `json:"shards"` // how many there are
	Slots      int64         `json:"slots"`
	Entries    int64         `json:"entries"`
	Batches    int64         `json:"batches"`
	Records    int64         `json:"records"`
	Bytes      int64         `json:"bytes"`      // of all entries
	Segments   int           `json:"segments"`   // segments that something refers to; all of them were read
	Orphans    int           `json:"orphans"`    // segments that nothing refers to: leftovers of a crash, not a problem
	Checkpoint string        `json:"checkpoint"` // where the log begins; empty: at its first slot
	Topics     int           `json:"topics"`     // at the end of the log, as the next three
	Partitions int           `json:"partitions"` //
	Streams    int           `json:"streams"`    // that have a mark
	Problems   []string      `json:"problems"`   // each with the key of an object; empty: the bucket is sound
	Took       time.Duration `json:"took"`       // nanoseconds
}

// Check proves every rule of the log from the bytes at rest, in all shards: the
// journal's rules, CRCs, records that decode, offsets without a hole, marks without a
// gap, producers' sequences and transactions, a valid catalogue, which the topics of the
// other shards agree with. It also proves that each offset of each partition is where the
// log says, in a segment or a slot, and nowhere else. It claims nothing and writes nothing, so it can run beside an owner;
// what is appended meanwhile may or may not be checked. Problems are also written to w,
// if it is not nil.
//
// An error means that the bucket could not be read to the end. A broken log is not an
// error: it is in Problems.
func Check(ctx context.Context, b storage.Bucket, w io.Writer) (Report, error) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b = &impatient{Bucket: b, giveUp: cancel}
	a := newAuditor(b)
	if err := a.readCluster(ctx, b); err != nil {
		return Report{}, fmt.Errorf("check: %w", err)
	}
	a.sound = a.report
	err := a.all(ctx, b, w)
	if err == nil {
		err = a.agreed(ctx, b, w)
	}
	if err != nil {
		return a.report, fmt.Errorf("check %w", cmp.Or(context.Cause(ctx), err))
	}
	a.report.Shards, a.report.Took = a.count(), time.Since(began)
	return a.report, nil
}

func newAuditor(b storage.Bucket) *auditor {
	return &auditor{bucket: b, where: "bucket", topics: make(map[weir.TopicID]int)}
}

// all audits all shards.
func (a *auditor) all(ctx context.Context, b storage.Bucket, w io.Writer) error {
	for shard := uint32(0); shard < a.count(); shard++ {
		if err := a.settled(ctx, b, shard); err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
		if shard > 0 {
			a.across()
		} else if a.whole {
			a.catalogue = catalogue{a.state, a.last, a.began}
		}
		a.note()
		a.sound = a.report
		a.tell(w)
	}
	return nil
}

// tell writes the problems that were found since the last call.
func (a *auditor) tell(w io.Writer) {
	if w != nil {
		for _, problem := range a.report.Problems[a.told:] {
			fmt.Fprintln(w, problem)
		}
	}
	a.told = len(a.report.Problems)
}

// Known is what a bucket says of itself, and what the log of a shard says of it.
type Known struct {
	Cluster  identity.Cluster
	Named    bool            // Cluster was read from the bucket, and is sound
	Identity *state.Identity // nil: the log says nothing
}

// Know reads a log to its end, for a repair: what is missing or damaged is passed over.
func Know(ctx context.Context, b storage.Bucket, shard uint32) (Known, error) {
	a := newAuditor(b)
	if err := a.readCluster(ctx, b); err != nil {
		return Known{}, err
	}
	if err := a.audit(ctx, b, shard); err != nil {
		return Known{}, err
	}
	return Known{a.cluster, a.named, a.state.Identity}, nil
}

// readCluster reads the object cluster. If it is missing or damaged, this is a problem,
// and the check goes on.
func (a *auditor) readCluster(ctx context.Context, b storage.Bucket) error {
	c, found, err := identity.ReadCluster(ctx, b)
	if err == nil && !found {
		began, beganErr := identity.Began(ctx, b)
		switch {
		case beganErr != nil:
			return beganErr
		case !began:
			return fmt.Errorf("bucket has no object %s: %w", identity.Key, fs.ErrNotExist)
		}
		err = journal.Missing(identity.Key, "a log has begun in this bucket")
	}
	if errors.Is(err, state.ErrCorrupt) || errors.Is(err, storage.ErrMissing) || errors.Is(err, storage.ErrDamaged) {
		a.problem(err)
		a.named = false
		return nil
	}
	a.cluster, a.named = c, true
	return err
}

// impatient is a bucket that ends a check when many requests in a row fail.
type impatient struct {
	storage.Bucket
	failures atomic.Int32 // since the last answer
	giveUp   context.CancelCauseFunc
}

// mostFailures failures take about half a minute.
const mostFailures = 10

func (b *impatient) note(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrDamaged) {
		b.failures.Store(0)
	} else if ctx.Err() == nil && b.failures.Add(1) >= mostFailures {
		b.giveUp(fmt.Errorf("the bucket did not answer %d times running: %w", mostFailures, err))
	}
	return err
}

func (b *impatient) Unwrap() storage.Bucket { return b.Bucket }

func (b *impatient) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	body, err := b.Bucket.Get(ctx, key, off, n)
	return body, b.note(ctx, err)
}

func (b *impatient) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	keys, err := b.Bucket.List(ctx, prefix, after, max)
	return keys, b.note(ctx, err)
}

// auditor is the journal's State for Check.
type auditor struct {
	report Report
	sound  Report // of the shards before this one
	told   int    // number of problems that were written to w

	bucket  storage.Bucket
	cluster identity.Cluster
	named   bool // cluster was read from the bucket
	known   journal.Recovered
	whole   bool // the log was read to its end, or does not exist

	catalogue catalogue
	topics    map[weir.TopicID]int // partitions, in any shard

	here   *found   // of the shard that is being read
	shards []*found // of those before it

	expected expected // batches of transactions that were not found yet
	gone     bool     // an object that the state refers to is missing
	shard    uint32
	state    *state.State
	last     journal.Position
	began    journal.Position // of the checkpoint; zero if there is none
	where    string           // the object that is being checked
}

// settled audits a shard, and again, at most three times in all, if something was
// missing: an owner that rewrites and deletes meanwhile may have removed objects since
// the log was read.
func (a *auditor) settled(ctx context.Context, b storage.Bucket, shard uint32) error {
	const most = 3
	for try := 1; ; try++ {
		a.gone = false
		if err := a.audit(ctx, b, shard); err != nil || !a.gone || try == most {
			return err
		}
		_ = pause.For(ctx, time.Duration(try)*200*time.Millisecond)
	}
}

func (a *auditor) audit(ctx context.Context, b storage.Bucket, shard uint32) error {
	a.shard = shard
	a.begin(state.Empty(), journal.Position{})
	a.known = journal.Recovered{}
	_, err := journal.Replay(ctx, journal.Options{Bucket: b, Shard: shard, Verify: func(_ context.Context, r journal.Recovered) error {
		a.known = r
		return nil
	}}, a)
	a.whole = err == nil
	if err == nil {
		_, _, err = journal.NewestClaim(ctx, b, shard) // which every node reads first
	}
	if err := a.found(fmt.Sprintf("shard %d", shard), err); err != nil {
		return err
	}
	if err := a.besides(ctx); err != nil {
		return err
	}
	if err := a.found(fmt.Sprintf("shard %d", shard), storage.Verify(ctx, b, journal.SlotPrefix(shard))); err != nil {
		return err
	}
	if err := a.placement(ctx); err != nil {
		return err
	}
	for _, t := range a.state.Topics {
		if _, known := a.topics[t.ID]; !known {
			a.report.Topics++
		}
		a.report.Partitions += max(len(t.Parts)-a.topics[t.ID], 0)
		a.topics[t.ID] = max(len(t.Parts), a.topics[t.ID])
	}
	streams := make(map[weir.Stream]bool)
	for name, g := range a.state.Gateways {
		for id, b := range g.Buffers {
			for key := range b.Marks {
				streams[weir.Stream{Gateway: name, Buffer: id, Lane: key.Lane}] = true
			}
		}
	}
	a.report.Streams += len(streams)
	return nil
}

// found reports an error about the bytes at rest as a problem. It returns other errors,
// which say that nothing could be read.
func (a *auditor) found(where string, err error) error {
	for _, kind := range []error{journal.ErrCorrupt, journal.ErrForeign, journal.ErrFormat, state.ErrCorrupt, state.ErrFormat, storage.ErrDamaged} {
		if errors.Is(err, kind) {
			a.where = where
			a.problem(err)
			return nil
		}
	}
	return err
}

// besides compares the objects beside the log with what the log says of them.
func (a *auditor) besides(ctx context.Context) error {
	if a.state.Identity == nil || !a.named {
		return nil
	}
	var keys []string
	for _, s := range a.state.Identity.Sums {
		keys = append(keys, s.Key)
	}
	there, err := identity.Sums(ctx, a.bucket, keys)
	if err != nil {
		return a.found("beside the log", err)
	}
	for _, err := range identity.Differs(a.state.Identity, a.cluster, there) {
		a.where = "beside the log"
		a.problem(err)
	}
	return nil
}

// begin starts over, and forgets all that was found in the shard so far.
func (a *auditor) begin(s *state.State, pos journal.Position) {
	a.report = a.sound
	a.report.Problems = slices.Clone(a.sound.Problems)
	a.here = &found{borrowed: make(map[state.SegmentID]bool)}
	a.state, a.last, a.began = s, journal.Position{}, pos
	a.state.Tolerate = func(err error) { a.problem(err) }
	if !pos.IsZero() {
		a.report.Checkpoint = pos.String()
	}
}

// Restore implements journal.State.
func (a *auditor) Restore(pos journal.Position, body []byte) error {
	s, _, err := state.DecodeCheckpoint(body)
	if err != nil {
		return fmt.Errorf("checkpoint %v: %w", pos, err)
	}
	a.begin(s, pos)
	return nil
}

func (a *auditor) problem(err error) {
	line := fmt.Sprintf("%s: %v", a.where, err)
	if len(a.report.Problems) == maxProblems {
		return
	}
	if len(a.report.Problems) == maxProblems-1 {
		line = a.where + ": more problems than are worth listing from here on"
	}
	a.report.Problems = append(a.report.Problems, line)
}

// Apply implements journal.State. It never fails: every error goes into the report, and
// the log is read on.
func (a *auditor) Apply(pos journal.Position, entries []journal.Entry) error {
	key := journal.SlotKey(a.shard, pos)
	a.where = key
	if !a.last.Before(pos) {
		a.problem(fmt.Errorf("%w: slot %v follows %v", state.ErrCorrupt, pos, a.last))
	}
	a.last = pos
	a.report.Slots++
	for i, e := range entries {
		a.where = fmt.Sprintf("%s: entry %d", key, i)
		a.report.Entries++
		a.report.Bytes += int64(len(e.Body))
		if e.Kind >= state.FirstMachineKind {
			continue
		}
		if err := a.state.Apply(pos, e); err != nil {
			a.problem(err)
			continue
		}
		if e.Kind == state.KindRun {
			a.records(e.Body)
		}
	}
	return nil
}

// records checks the batches of a run, which Apply does not look into.
func (a *auditor) records(body []byte) {
	r, err := state.DecodeRun(body)
	if err != nil {
		a.problem(err)
		return
	}
	batches, _, err := state.CutRun(r.Data, r.Base, r.Epoch)
	if err != nil {
		a.problem(err)
		return
	}
	a.batches(state.Place{Topic: r.Topic, Partition: r.Partition}, batches)
}

// batches verifies batches and the records in them.
func (a *auditor) batches(key state.Place, batches []record.Batch) {
	for _, b := range batches {
		if err := b.Verify(); err != nil {
			a.batch(key, b, err)
			continue
		}
		a.batch(key, b, b.VerifyRecords(state.MaxInflated))
	}
}

// batch counts a batch and reports what is wrong with it.
func (a *auditor) batch(key state.Place, b record.Batch, err error) {
	a.report.Batches++
	a.report.Records += int64(b.Count())
	if err != nil {
		a.problem(fmt.Errorf("%v: batch at offset %d: %w", key, b.BaseOffset(), err))
	}
}
