package cluster

// revoked reports whether a node is not to be one of the cluster any more.
func (m *Manager) revoked(name string) bool {
	return m.o.Revoked != nil && !trustRevoked(m.o.mutations) && m.o.Revoked(name)
}

// Expel removes revoked nodes from the members. They get no shard, and the supervisors of
// those that they own take these over.
func (m *Manager) Expel() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, other := range m.members {
		if m.revoked(name) {
			other.cancel()
			delete(m.members, name)
		}
	}
	for _, s := range m.shards {
		if m.revoked(s.owner) {
			s.wake()
		}
	}
}
