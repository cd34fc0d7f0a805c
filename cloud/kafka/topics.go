package kafka

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/weir"
)

// find finds a topic as requests name it: by name, or by id in newer versions.
func (s *Server) find(name string, id [16]byte, byID bool) (broker.Topic, error) {
	if !byID {
		return s.broker.Topic(name)
	}
	t, err := s.broker.TopicByID(id)
	if errors.Is(err, broker.ErrUnknownTopic) {
		return t, errUnknownID
	}
	return t, err
}

const maxTopicName = 249 // bytes

// checkName returns nil if a client may create a topic of this name.
func checkName(name string) error {
	legal := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
	}
	switch {
	case name == "" || name == "." || name == "..":
		return refused(kerr.InvalidTopicException, "a topic cannot be named %q", name)
	case len(name) > maxTopicName:
		return refused(kerr.InvalidTopicException, "a topic's name cannot be longer than %d characters", maxTopicName)
	case strings.ContainsFunc(name, func(r rune) bool { return !legal(r) }):
		return refused(kerr.InvalidTopicException, "a topic's name has only ASCII letters, digits, '.', '_' and '-'")
	case broker.Internal(name):
		return refused(kerr.InvalidTopicException, "%s is Kafka's own", name)
	case broker.Reserved(name):
		return refused(kerr.InvalidTopicException, "names that begin with weir. or __weir are Weir's own")
	}
	return nil
}

// checkEpoch compares the leader epoch that a client knows (-1: none) with this
// leader's epoch of the partition (KIP-320).
func (s *Server) checkEpoch(topic [16]byte, partition, known int32) error {
	switch now := s.broker.Epoch(topic, partition); {
	case known < 0 || known == now || now < 0:
		return nil
	case known < now:
		return errOldEpoch
	default:
		return errNewEpoch
	}
}

// hereID is the number that all nodes have for clients of a listener with route=here. They
// have one, so that a client behind a load balancer finds the node that it knows whichever
// it reaches.
const hereID = 1

// node is a node that clients are sent to, with its address in two parts.
type node struct {
	id, port int32
	host     string
}

// node returns the address of a node for a client: that of the node's listener with
// the name of the client's listener. It returns false if the node is not known, or
// has no such listener. A client of a listener with route=here takes all nodes for one.
func (r *request) node(l broker.Leader, known bool) (node, bool) {
	if !known {
		return node{}, false
	}
	if r.conn.here != nil {
		return *r.conn.here, true
	}
	host, port, ok := splitAddress(l.ListenerAddress(cluster.Kafka, r.conn.listener.Name))
	return node{l.ID, port, host}, ok
}

// elsewhereIs returns the leader of a partition for a client that has asked another
// node, if err says that (KIP-951). It waits for a moment if this node has just handed the
// partition over.
func (r *request) elsewhereIs(err error, topic weir.TopicID, partition int32) (n node, epoch int32, ok bool) {
	if !errors.Is(err, broker.ErrNotOwner) {
		return n, 0, false
	}
	r.conn.s.broker.AwaitLeader(topic, partition)
	l, known := r.conn.s.broker.Leader(topic, partition)
	if l.Name == r.conn.s.broker.Self().Name {
		return n, 0, false // it is about to serve it, or has just lost it
	}
	if n, ok = r.node(l, known); ok {
		epoch = l.Epoch
	}
	return n, epoch, ok
}

// nodes lists the nodes that serve something.
func (r *request) nodes() []node {
	if r.conn.here != nil {
		return []node{*r.conn.here}
	}
	var all []node
	for _, l := range r.conn.s.broker.Nodes() {
		if n, ok := r.node(l, true); ok {
			all = append(all, n)
		}
	}
	return all
}

// controller returns the number of the node that creates topics and the like, none if
// it is not known.
func (r *request) controller() int32 {
	if n, ok := r.node(r.conn.s.broker.Controller()); ok {
		return n.id
	}
	return none
}

func splitAddress(address string) (host string, port int32, ok bool) {
	host, p, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, false
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return host, int32(n), err == nil
}

func milliseconds(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }

// within bounds a request by the time that the client will wait.
func within(ctx context.Context, ms int32) (context.Context, context.CancelFunc) {
	if ms <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, milliseconds(ms))
}
