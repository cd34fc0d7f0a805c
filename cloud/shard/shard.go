// Package shard is a shard that this node owns: its log, and the state machines
// that apply the log's entries.
//
// The only shard of a cluster has everything. In a cluster of several, shard 0 has the
// catalogue, and the others have partitions, groups, transactions and work queues: see Part.
package shard

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// Part is the part of a cluster's state that a shard has.
type Part int

// The parts. The numbers are not at rest.
const (
	Whole     Part = iota // everything: shard 0 of a cluster that was created with one; see below
	Catalogue             // topics, users, quotas, settings and gateways: shard 0 of several
	Data                  // partitions, groups, transactions and work queues: the others
)

// PartOf returns the part of a shard, by its number, in a cluster that was created with so
// many shards. If slices move from shard 0 to others, it stays Whole, with fewer slices.
func PartOf(id uint32, created int) Part {
	switch {
	case id > 0:
		return Data
	case created < 2:
		return Whole
	}
	return Catalogue
}

// service is a state machine on the log of a shard. It is made before the log is
// opened, and used for one period of ownership only.
type service struct {
	state.Machine

	// start begins to serve: this node owns the log, and all entries have been applied.
	start func(ctx context.Context, log machine.WaitingLog)

	// close ends what start began. It may wait for entries on their way to the log,
	// which is closed at the same time.
	close func() error
}

// Options configure a Shard. The zero value is usable.
type Options struct {
	Log      *slog.Logger // for machines without a logger of their own; nil: slog.Default
	Part     Part
	Topics   *machine.Topics    // those of the cluster; required if Part is Data, else not used
	Settings *settings.Settings // empty; made by the caller if others use it before New; nil: New makes one
	Groups   group.Options
	Shares   share.Options
	Txns     txn.Options // for Parts, too; Groups is set by New
	Fleet    fleet.Options
	Users    auth.Options
	Quotas   quota.Options
	Queues   queue.Options
}

// Shard is the log of a shard and its machines. The fields do not change after Open.
// Machines that are not of its Part are nil.
type Shard struct {
	ID       uint32 // number
	Part     Part
	Log      machine.WaitingLog
	Groups   *group.Coordinator
	Shares   *share.Manager
	Txns     *txn.Coordinator
	Parts    *txn.Participant // of transactions that other shards coordinate
	Fleet    *fleet.Fleet
	Users    *auth.Auth
	Quotas   *quota.Quotas
	Queues   *queue.Engine
	Settings *settings.Settings
	Load     *Load // the broker counts

	topics *machine.Topics // Options.Topics
}

// Load counts what was appended to the partitions of a shard since this node owns it. It
// may be read at any time.
type Load struct {
	Records, Bytes atomic.Uint64 // bytes are those of record batches
}

// New makes the machines. Open does the rest.
func New(o Options) *Shard {
	o.Groups.Log, o.Txns.Log, o.Queues.Log = cmp.Or(o.Groups.Log, o.Log), cmp.Or(o.Txns.Log, o.Log), cmp.Or(o.Queues.Log, o.Log)
	o.Shares.Log = cmp.Or(o.Shares.Log, o.Log)
	s := &Shard{Part: o.Part, Load: new(Load)}
	if o.Part != Data {
		s.Fleet, s.Users, s.Quotas, s.Settings = fleet.New(o.Fleet), auth.New(o.Users), quota.New(o.Quotas), o.Settings
		if s.Settings == nil {
			s.Settings = settings.New()
		}
	}
	if o.Part != Catalogue {
		o.Groups.NoHistory = o.Part == Data
		s.Groups, s.Shares = group.New(o.Groups), share.New(o.Shares)
		o.Txns.Groups = s.Groups
		s.Txns, s.Parts = txn.New(o.Txns), txn.NewParticipant(o.Txns)
		s.Queues = queue.New(o.Queues)
	}
	if o.Part == Data {
		s.topics = o.Topics
	}
	return s
}

// services lists the state machines, in the order in which they start.
func (s *Shard) services() []service {
	var all []service
	if s.Groups != nil {
		all = append(all,
			service{s.Groups, s.Groups.Start, s.Groups.Close},
			service{s.Shares, s.Shares.Start, s.Shares.Close},
			service{s.Txns, s.Txns.Start, s.Txns.Close},
			service{s.Parts, s.Parts.Start, s.Parts.Close})
	}
	if s.Fleet != nil {
		all = append(all,
			service{s.Fleet, s.Fleet.Start, s.Fleet.Close},
			service{s.Users, s.Users.Start, s.Users.Close},
			service{s.Quotas, s.Quotas.Start, s.Quotas.Close})
	}
	if s.Queues != nil {
		all = append(all, service{s.Queues, s.Queues.Start, s.Queues.Close})
	}
	if s.Settings != nil {
		all = append(all, service{s.Settings, s.Settings.Start, s.Settings.Close})
	}
	return all
}

// Machines lists the state machines for the log.
func (s *Shard) Machines() []state.Machine {
	var all []state.Machine
	for _, m := range s.services() {
		all = append(all, m.Machine)
	}
	return all
}

// Open recovers the log into the machines, takes ownership, and starts them. It sets
// o.Machines, o.Mirrored and o.Needed. The errors are those of commitlog.Open.
func (s *Shard) Open(ctx context.Context, o commitlog.Options) (err error) {
	if s.Log.Log, err = commitlog.Open(ctx, s.options(o)); err != nil {
		return err
	}
	s.start(ctx)
	return nil
}

// Prepare makes a candidate for the log of a shard that another node owns. The machines
// apply what it reads, and do not act before Take. It sets what Open sets. The errors are
// those of commitlog.Prepare.
func (s *Shard) Prepare(ctx context.Context, o commitlog.Options) (*commitlog.Candidate, error) {
	return commitlog.Prepare(ctx, s.options(o))
}

// Resume is Prepare for a log that this node has handed over, and has to lead again. former
// is closed; what its machines know is in those of s.
func (s *Shard) Resume(ctx context.Context, former *Shard, o commitlog.Options) (*commitlog.Candidate, error) {
	return former.Log.Resume(ctx, s.options(o))
}

// Take takes ownership with the candidate of Prepare or Resume, which has claimed, and
// starts the machines. The errors are those of commitlog.Open.
func (s *Shard) Take(ctx context.Context, c *commitlog.Candidate) (err error) {
	if s.Log.Log, err = c.Take(ctx); err != nil {
		return err
	}
	s.start(ctx)
	return nil
}

// options adds what the shard gives to the options of its log.
func (s *Shard) options(o commitlog.Options) commitlog.Options {
	s.ID, o.Machines, o.Mirrored = o.Shard, s.Machines(), s.View().Machines()
	if s.Queues != nil {
		o.Needed = s.Queues.Needed
	}
	return o
}

// start lets the machines act.
func (s *Shard) start(ctx context.Context) {
	log := s.Log
	log.Catalogue = s.topics
	for _, m := range s.services() {
		m.start(ctx, log)
	}
}

// Close ends the machines and the log, which need not be open. Entries on their way
// to the log succeed or fail first.
func (s *Shard) Close() error {
	all := s.services()
	errs := make([]error, len(all)+1)
	var wg sync.WaitGroup
	for i, m := range all {
		wg.Go(func() { errs[i] = m.close() })
	}
	if s.Log.Log != nil {
		errs[len(all)] = s.Log.Close()
	}
	wg.Wait()
	return errors.Join(errs...)
}
