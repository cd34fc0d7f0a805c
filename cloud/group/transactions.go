package group

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/storage/coding"
)

// MayCommit checks offsets that are to become part of a transaction. It checks
// membership as Commit does, and the slice holds one result per offset. There are two
// differences. A rebalance in progress is allowed: readers of the offsets wait for
// the transaction to end. So is a request without a member: Kafka's clients do not
// name one before TxnOffsetCommit v3.
//
// Errors: ErrInvalidGroup, ErrUnknownMember, ErrFencedInstance,
// ErrIllegalGeneration, ErrTooManyGroups, ErrClosed.
func (c *Coordinator) MayCommit(r CommitRequest) ([]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.serving(r.Group); err != nil {
		return nil, err
	}
	g, ok := c.groups[r.Group]
	switch {
	case !ok && r.Generation >= 0:
		return nil, ErrIllegalGeneration
	case !ok && len(c.groups) >= c.opts.MaxGroups:
		return nil, ErrTooManyGroups
	case ok:
		// A commit that only has to wait for the rebalance is allowed.
		if err := g.mayCommit(&r); err != nil && !errors.Is(err, ErrRebalanceInProgress) && !r.anonymous() {
			return nil, err
		}
	}
	errs := make([]error, len(r.Offsets))
	for i, o := range r.Offsets {
		if len(o.Metadata) > c.opts.MaxMetadata {
			errs[i] = ErrMetadataTooLarge
		}
	}
	return errs, nil
}

// anonymous reports whether a commit names no member.
func (r *CommitRequest) anonymous() bool {
	return r.Generation < 0 && r.Member == "" && r.Instance == ""
}

// CommitEntry returns the entry that commits offsets at a time (ms since 1970), for a
// caller that makes it durable together with other entries.
func CommitEntry(group string, at int64, offsets []Offset) (kind uint16, body []byte) {
	return kindCommit, encodeCommit(group, at, offsets)
}

// DecodeCommit is the inverse of CommitEntry.
func DecodeCommit(body []byte) (group string, offsets []Offset, err error) {
	d := coding.NewDecoder(body)
	if v := d.Byte(); v != bodyVersion {
		return "", nil, fmt.Errorf("decode commit: version %d is not known: %w", v, ErrCorrupt)
	}
	group, offsets = decodeCommit(&d)
	if !d.Done() {
		return "", nil, fmt.Errorf("decode commit: %w", ErrCorrupt)
	}
	return group, offsets, nil
}
