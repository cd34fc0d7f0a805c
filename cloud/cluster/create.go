package cluster

import (
	"context"
	"errors"
	"fmt"
)

// A cluster gets another shard while it runs. One node leads it before the others know of
// it, which they do when slices have moved there: see ManagerOptions.Shards.

// ErrDrains means that this node is to end, and hands its shards over.
var ErrDrains = errors.New("this node is being stopped, and hands its shards over")

// Hold keeps this node from handing shards over until release is called. A node that drains
// hands over the others, and waits for these. What it waits for should be given up when ctx,
// made of parent, ends: it does, with the cause ErrDrains, as soon as the node drains.
func (m *Manager) Hold(parent context.Context, shards ...uint32) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(m.drain, func() { cancel(ErrDrains) })
	if m.drain.Err() != nil {
		cancel(ErrDrains) // at once, and not when AfterFunc's goroutine runs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range shards {
		m.held[s]++
	}
	return ctx, func() {
		stop()
		cancel(nil)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, s := range shards {
			if m.held[s]--; m.held[s] == 0 {
				delete(m.held, s)
			}
		}
	}
}

// ErrNotNext means that a shard cannot be created because it is not the one behind the last
// of which this node knows. It may hear of more.
var ErrNotNext = errors.New("it is not the next shard")

// Create makes this node lead a shard that the cluster does not have yet: its number must be
// the one behind the last. Another node may have had it for a while: then this one takes it
// over when that is silent. Errors: ErrNotNext, and others that last. If the shard is part of the cluster when release is called, this
// node goes on with it; else it ends, and release returns when it has.
func (m *Manager) Create(shard uint32) (release func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !m.running:
		return nil, fmt.Errorf("create shard %d: this node ends", shard)
	case int(shard) != len(m.shards):
		return nil, fmt.Errorf("create shard %d: %w: this node knows of %d", shard, ErrNotNext, len(m.shards))
	case !m.self.Roles.Has(RoleLog):
		return nil, fmt.Errorf("create shard %d: this node has roles %v, and not log", shard, m.self.Roles)
	}
	s := newSupervisor(m, shard)
	s.first = true
	m.shards, m.order = append(m.shards, s), nil
	ctx, cancel := context.WithCancel(m.ctx)
	ended := make(chan struct{})
	m.wg.Go(func() {
		defer close(ended)
		m.supervised(s.run(ctx))
	})
	return func() {
		m.mu.Lock()
		part := shard < m.o.Shards()
		m.mu.Unlock()
		if part {
			return // ctx ends with Run
		}
		cancel()
		<-ended
		m.mu.Lock()
		defer m.mu.Unlock()
		if last := len(m.shards) - 1; last == int(shard) {
			m.shards, m.order = m.shards[:last], nil
		}
	}, nil
}

// supervised takes what a supervisor ends with.
func (m *Manager) supervised(err error) {
	if err == nil {
		return
	}
	select {
	case m.failed <- err:
	default: // another one has failed before
	}
}
