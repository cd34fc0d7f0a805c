package txn

import (
	"context"
	"maps"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/commitlog"
)

// CommitOffsets is Coordinator.CommitOffsets for a group of another shard than the
// coordinator's.
//
// Errors besides those: ErrUnavailable: the coordinator does not answer.
func (p *Participant) CommitOffsets(ctx context.Context, r OffsetsRequest) ([]error, error) {
	part := Part{ID: r.ID, Producer: r.Producer, Group: r.Commit.Group, Implicit: r.Implicit}
	if part.Group == "" || len(part.Group) > maxName || part.Producer.ID < 0 {
		return nil, ErrInvalidID
	}
	number, err := p.number(ctx, part)
	if err != nil {
		return nil, err
	}
	x, s, err := p.startStaging(&r, part, number)
	if err != nil {
		return nil, err
	}
	defer func() {
		p.mu.Lock()
		delete(x.staging, s)
		p.mu.Unlock()
		p.done(x)
	}()
	keep, errs, err := allowed(p.opts.Groups, r.Commit)
	if err == nil && len(keep) > 0 {
		entry := encodeStaged(r.Producer.ID, number, p.opts.Now().UnixMilli(), r.Commit.Group, keep)
		err = unavailable("add offsets to transaction", p.log.ProposeAll(context.WithoutCancel(ctx), []commitlog.Command{entry}, nil))
	}
	if err != nil {
		return nil, err
	}
	return errs, nil
}

// number returns the number of the transaction of a part.
func (p *Participant) number(ctx context.Context, part Part) (uint64, error) {
	p.mu.Lock()
	number, verified := uint64(0), false
	if x := p.producers[part.Producer.ID]; x != nil {
		number, verified = x.verified[part]
	}
	serving := p.serving
	p.mu.Unlock()
	switch {
	case !serving:
		return 0, ErrClosed
	case verified:
		return number, nil
	}
	return p.verify(ctx, part)
}

func (p *Participant) startStaging(r *OffsetsRequest, part Part, number uint64) (*participation, *staging, error) {
	s := stagingOf(&r.Commit)
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.of(r.Producer.ID)
	size := x.size + groupSize(s.group) + s.size
	for other := range x.staging {
		size += groupSize(other.group) + other.size
	}
	// The other half is for the markers.
	if size > p.opts.MaxBytes/2 {
		p.drop(x)
		return nil, nil, ErrTooLarge
	}
	if err := p.admit(x, number); err != nil {
		p.drop(x)
		return nil, nil, err
	}
	x.staging[s] = struct{}{}
	x.verified[part] = number
	return x, s, nil
}

// stage adds offsets to what waits for a commit.
func (d *participated) stage(name string, staged []group.Offset) {
	if d.groups == nil {
		d.groups = make(map[string]offsets)
	}
	of, ok := d.groups[name]
	if !ok {
		of = make(offsets)
		d.groups[name] = of
		d.size += groupSize(name)
	}
	for _, o := range staged {
		if old, ok := of[o.Partition]; ok {
			d.size -= offsetSize(old)
		}
		of[o.Partition] = o
		d.size += offsetSize(o)
	}
}

// clone returns the offsets that wait for a commit, for a caller that does not hold mu.
func (d *participated) clone() map[string]offsets {
	all := make(map[string]offsets, len(d.groups))
	for name, of := range d.groups {
		all[name] = maps.Clone(of)
	}
	return all
}
