package uplink

import "cmp"

// Number orders the sessions of a gateway, and the attachments of each. The owner of the
// shard that has the gateway gives them: see Owner.Number.
type Number struct {
	Epoch uint64 // of that ownership
	Count uint64 // of the sessions in it, from 1
	Try   uint64 // of the session's attachments to a shard
}

// Compare returns -1, 0 or +1: a newer attachment has a higher number.
func (n Number) Compare(other Number) int {
	return cmp.Or(cmp.Compare(n.Epoch, other.Epoch), cmp.Compare(n.Count, other.Count), cmp.Compare(n.Try, other.Try))
}

// same reports whether both numbers are of one session.
func (n Number) same(other Number) bool { return n.Epoch == other.Epoch && n.Count == other.Count }
