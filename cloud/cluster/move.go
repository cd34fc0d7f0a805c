package cluster

// Reason is why a node has got a shard.
type Reason string

// The reasons.
const (
	First      Reason = "first"    // nobody ever had it
	HandedOver Reason = "handover" // its owner has handed it over
	Silent     Reason = "takeover" // its owner was silent
	Ended      Reason = "ended"    // its owner has ended in good order
	Revoked    Reason = "revoked"  // its owner is not to be one of the cluster any more
	Restarted  Reason = "restart"  // this node had it in its former life
	Kept       Reason = "kept"     // this node had it, and no other one has taken it since
)

// Reasons lists all of them.
func Reasons() []Reason { return []Reason{First, HandedOver, Silent, Ended, Revoked, Restarted, Kept} }

// Move is how a shard came to a node.
type Move struct {
	Reason Reason
	From   string // the node that had it before; "" if that is not known, or none had it
}

// moved returns why this node claims a shard after the watched claim.
func (w *watch) moved() Move {
	switch {
	case w.former:
		return Move{Restarted, w.owner.Name}
	case w.own:
		return Move{Kept, w.owner.Name}
	case w.s.m.revoked(w.owner.Name):
		return Move{Revoked, w.owner.Name}
	case w.left:
		return Move{Ended, w.owner.Name}
	}
	return Move{Silent, w.owner.Name}
}
