package share

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/share/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

// Groups lists the groups that share partitions of the shard, by name.
func (m *Manager) Groups() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.state.Groups(), nil
}

// Offsets returns how far a group is in each partition that it shares, by topic id and
// partition. Partitions of deleted topics are left out.
func (m *Manager) Offsets(group string) ([]Offsets, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	return m.offsets(group)
}

// offsets is Offsets with mu held.
func (m *Manager) offsets(group string) ([]Offsets, error) {
	var all []Offsets
	for _, p := range m.state.Of(group) {
		start, end, err := m.log.Bounds(p.Place.Topic, p.Place.Partition)
		if errors.Is(err, commitlog.ErrUnknownTopic) {
			continue
		}
		if err != nil {
			return nil, err
		}
		o := Offsets{Place: p.Place, Start: max(p.Start, start), Lag: p.Records(end)}
		if start > p.Start {
			o.Lag -= p.Records(start)
		}
		all = append(all, o)
	}
	return all, nil
}

// Usage returns what the groups do, by group and topic id. Deleted topics are left out. It
// holds up nobody for longer than one group takes.
func (m *Manager) Usage() ([]Usage, error) {
	groups, err := m.Groups()
	if err != nil {
		return nil, err
	}
	var all []Usage
	for _, group := range groups {
		if all, err = m.usage(all, group); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (m *Manager) usage(all []Usage, group string) ([]Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	offsets, err := m.offsets(group)
	if err != nil {
		return nil, err
	}
	for _, o := range offsets {
		if n := len(all); n == 0 || all[n-1].Group != group || all[n-1].Topic != o.Topic {
			all = append(all, Usage{Group: group, Topic: o.Topic})
		}
		u := &all[len(all)-1]
		u.Lag += o.Lag
		if p := m.groups[group][topicPart{o.Topic, o.Partition}]; p != nil {
			u.Acquired += int64(p.held())
			u.Accepted += p.accepted
			u.Rejected += p.rejected
			u.Archived += p.archived
			u.Copied += p.copied
			u.Uncopied += p.uncopied
		}
	}
	return all, nil
}

// Begin makes a group share a partition from an offset on, and forgets what it did
// there before; durable when it returns nil. Members lose what they have acquired.
func (m *Manager) Begin(ctx context.Context, at Place, start int64) error {
	leave, ok := m.gate.Enter(weir.SliceOf(at.Topic, at.Partition))
	if !ok {
		return ErrClosed
	}
	defer leave()
	m.mu.Lock()
	closed, full := m.closed, m.state.Partition(at) == nil && m.state.Len() >= m.o.MaxPartitions
	m.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case full:
		return ErrTooMany
	case m.log.Level() < state.Level:
		return fmt.Errorf("share group %q: %w", at.Group, machine.ErrLevel)
	}
	if _, _, err := m.log.Bounds(at.Topic, at.Partition); err != nil {
		return err
	}
	begun := state.Begun{Place: at, Start: start, Lent: start - 1}
	err := m.propose(ctx, state.KindBegun, begun.Append(nil))
	m.forget(at)
	return err
}

// Delete removes what a group knows of a topic, or of all if topic is nil; durable when
// it returns nil. It reports whether there was anything.
func (m *Manager) Delete(ctx context.Context, group string, topic *weir.TopicID) (found bool, err error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false, ErrClosed
	}
	var ids []state.ID
	var places []Place
	moving := false
	for _, p := range m.state.Of(group) {
		if topic == nil || p.Place.Topic == *topic {
			ids, places = append(ids, p.ID), append(places, p.Place)
			leave, ok := m.gate.Enter(weir.SliceOf(p.Place.Topic, p.Place.Partition))
			if moving = moving || !ok; ok {
				defer leave()
			}
		}
	}
	m.mu.Unlock()
	switch {
	case moving:
		return false, ErrClosed
	case len(ids) == 0:
		return false, nil
	}
	err = m.propose(ctx, state.KindDeleted, state.EncodeDeleted(ids))
	m.forget(places...)
	return true, err
}

// ForgetTopic removes what all groups know of a topic that was deleted; durable when it
// returns nil. A crash before it leaves what takes room but does no harm.
func (m *Manager) ForgetTopic(ctx context.Context, topic weir.TopicID) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	var places []Place
	for _, group := range m.state.Groups() {
		for _, p := range m.state.Of(group) {
			if p.Place.Topic == topic {
				places = append(places, p.Place)
			}
		}
	}
	m.mu.Unlock()
	if len(places) == 0 {
		return nil
	}
	err := m.propose(ctx, state.KindForgotten, state.EncodeForgotten(topic))
	m.forget(places...)
	return err
}

// forget drops share partitions from memory: their next use finds what is durable.
func (m *Manager) forget(places ...Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, at := range places {
		if p := m.groups[at.Group][topicPart{at.Topic, at.Partition}]; p != nil {
			m.drop(p)
		}
	}
}
