package weir

import (
	"encoding/hex"
	"strings"
)

// Topics that Weir itself writes to.
const (
	// GapTopic is where gateways report what they had accepted and cannot deliver.
	// It cannot be deleted: reports that are on their way would be lost with it.
	GapTopic = "weir.gaps"

	// UnroutedTopic takes the messages whose own topic a gateway cannot have. It
	// does not count among the topics of a gateway.
	UnroutedTopic = "unrouted"

	// VhostTopics is the prefix of the topics that hold the messages of work queues, one
	// topic for each vhost.
	VhostTopics = "weir.vhost."
)

// Hidden reports whether a topic is hidden by its name: no door lists it, and to whoever
// names it there is no such topic. Only the work queues append to it.
func Hidden(name string) bool { return strings.HasPrefix(name, VhostTopics) }

// TopicID identifies a topic. A topic that is deleted and created again under its old
// name gets another id.
type TopicID [16]byte

// String returns the id in hex.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }
