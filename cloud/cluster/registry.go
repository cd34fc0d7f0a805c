package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage"
)

// ErrNamesake means that another process has this node's name, and is alive.
var ErrNamesake = errors.New("another process has the name of this node")

// enter creates this node's member object and meets the nodes that have one. It repeats
// that until it has succeeded; it returns false if ctx ends first. Errors: ErrNamesake.
func (m *Manager) enter(ctx context.Context) (bool, error) {
	for ctx.Err() == nil {
		others, err := listMembers(ctx, m.o.Bucket)
		if err == nil {
			if err := m.checkName(ctx, others); err != nil {
				return false, err
			}
			var number uint64
			if number, err = register(ctx, m.o.Bucket, m.o.Self, others); err == nil {
				m.mu.Lock()
				m.self.Member, m.entered = number, time.Now()
				m.mu.Unlock()
				m.meetAll(ctx, others)
				return true, nil
			}
		}
		if ctx.Err() == nil {
			m.o.Log.Warn("this node is not entered among the members yet: trying again", "err", err)
			wait(ctx, time.Second)
		}
	}
	return false, nil
}

// checkName returns ErrNamesake if the process that has left a member object of this node's
// name still answers. Two of one name would take each other's shards: each would think that
// the other is its former life.
func (m *Manager) checkName(ctx context.Context, keys []string) error {
	number := newestMembers(keys)[m.o.Self.ID]
	if number == 0 {
		return nil
	}
	former, err := readMember(ctx, m.o.Bucket, memberKey(m.o.Self.ID, number))
	if err != nil {
		m.o.Log.Warn("what is left of this node's former life cannot be read", "err", err)
		return nil
	}
	address := former.Address(Peer)
	if address == "" || address == m.o.Self.Address(Peer) || !m.o.Self.canAsk(former) {
		return nil // at its address only this process can be
	}
	r, err := m.question(ctx, former)
	if err != nil || r.Node.Boot != former.Boot {
		return nil
	}
	return fmt.Errorf("%w, %q: it is on host %s, at %s; give each node a --node-id of its own", ErrNamesake, former.Name, former.Host, address)
}

// newestMembers returns the newest member object of each node.
func newestMembers(keys []string) map[int32]uint64 {
	newest := make(map[int32]uint64)
	for _, key := range keys {
		if id, number, ok := parseMember(key); ok {
			newest[id] = max(newest[id], number)
		}
	}
	return newest
}

// meetAll meets the nodes of member objects.
func (m *Manager) meetAll(ctx context.Context, keys []string) {
	for id, number := range newestMembers(keys) {
		if id == m.o.Self.ID || m.knows(id, number) {
			continue
		}
		key := memberKey(id, number)
		n, err := readMember(ctx, m.o.Bucket, key)
		if err != nil {
			if ctx.Err() == nil {
				m.o.Log.Warn("a member object is passed over", "key", key, "err", err)
			}
			continue
		}
		m.mu.Lock()
		m.meet(n)
		m.mu.Unlock()
	}
}

// knows reports whether a member is known by that member object or a newer one.
func (m *Manager) knows(id int32, number uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.members {
		if other.ID == id && other.Member >= number {
			return true
		}
	}
	return false
}

// refresh lists the members once more. It enters this node again if its object is
// gone, and deletes what is left of nodes that have been silent for long.
func (m *Manager) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.o.Takeover)
	defer cancel()
	keys, err := listMembers(ctx, m.o.Bucket)
	if err != nil {
		m.o.Log.Warn("the members were not listed", "err", err)
		return
	}
	self := m.node()
	if newestMembers(keys)[self.ID] < self.Member {
		m.reenter(ctx)
	}
	m.meetAll(ctx, keys)
	if old := m.outdated(keys); len(old) > 0 {
		if err := m.o.Bucket.Delete(ctx, old...); err != nil {
			m.o.Log.Warn("member objects of nodes that are gone were not deleted", "err", err)
		}
	}
}

// reenter makes this node's member object again if it is gone. It reports whether the
// object is there.
func (m *Manager) reenter(ctx context.Context) bool {
	if err := enter(ctx, m.o.Bucket, m.o.Self, m.node().Member); err != nil && !errors.Is(err, storage.ErrExists) {
		if ctx.Err() == nil {
			m.o.Log.Warn("this node's member object may be gone and was not made again", "err", err)
		}
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entered = time.Now()
	return true
}

// remain makes the member object again if it was deleted while this node was cut off: the
// owner of a shard that has none counts as ended. It tries until it has succeeded or ctx ends.
func (m *Manager) remain(ctx context.Context) {
	m.mu.Lock()
	there := time.Since(m.entered) < m.o.Takeover // by another shard
	m.mu.Unlock()
	for !there && ctx.Err() == nil {
		if there = m.reenter(ctx); !there {
			wait(ctx, time.Second)
		}
	}
}

// outdated returns the member objects of former lives, and of nodes that were silent
// for long and have no shard. Members that have neither an object nor a shard, and are
// silent, are forgotten.
func (m *Manager) outdated(keys []string) []string {
	newest := newestMembers(keys)
	m.mu.Lock()
	defer m.mu.Unlock()
	silent := make(map[int32]bool)
	for name, other := range m.members {
		switch {
		case m.owns(name) || time.Since(other.heard) < m.o.Takeover:
		case newest[other.ID] == 0 || newest[other.ID] < other.Member:
			other.cancel()
			delete(m.members, name)
		case time.Since(other.heard) >= forgotten:
			silent[other.ID] = true
		}
	}
	var old []string
	for _, key := range keys {
		id, number, ok := parseMember(key)
		if ok && (number < newest[id] || id == m.self.ID && number < m.self.Member || silent[id]) {
			old = append(old, key)
		}
	}
	return old
}

// owns reports whether the newest known claim of a shard is of that node. m.mu is held.
func (m *Manager) owns(name string) bool {
	for _, s := range m.shards {
		if s.owner == name {
			return true
		}
	}
	return false
}

// leave deletes this node's member object: the logs of its shards are closed, and nobody
// needs to wait for it.
func (m *Manager) leave() {
	self := m.node()
	if self.Member == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.o.Takeover)
	defer cancel()
	if err := m.o.Bucket.Delete(ctx, memberKey(self.ID, self.Member)); err != nil {
		m.o.Log.Warn("this node's member object was not deleted: others wait for it", "err", err)
	}
}
