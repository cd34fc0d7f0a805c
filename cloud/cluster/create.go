package cluster

import (
	"context"
	"errors"
	"fmt"
)

// A cluster gets another shard while it runs. One node leads it before the others know of
// it, which they do when slices have moved there: see ManagerOptions.Shards.

// Hold keeps this node from handing shards over, unless it drains, until release is called.
func (m *Manager) Hold() (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.held--
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
