package edge

import (
	"fmt"
	"strings"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/storage/weir"
)

// Unrouted is the topic of messages whose topic this gateway may not write: its name is
// not legal, or the gateway has named as many topics as it may.
const Unrouted = weir.UnroutedTopic

// Origin is what routes use of a message.
type Origin struct {
	Topic   string // of MQTT
	Client  string // id of the publisher
	Gateway string // id of this gateway
	QoS     byte
}

// Target is where a message goes.
type Target struct {
	Topic, Key string
	Lane       weir.Lane
	Named      bool // the topic's name comes from the message, not from the route
	Tombstone  bool // an empty retained payload becomes a null value
	Source     bool // headers name gateway and client
}

// noRoute is the index of a route when none matches.
const noRoute = -1

// Target returns where a message goes; false if it stays on the gateway.
func (rs Routes) Target(m Origin) (Target, bool) {
	t, _, stays := rs.decide(&m)
	return t, stays == ""
}

// decide routes a message. It returns the index of the route that matches, or
// noRoute, and why the message stays on the gateway; "" if it does not stay.
func (rs Routes) decide(m *Origin) (t Target, route int, stays string) {
	for i := range rs {
		r := &rs[i]
		switch {
		case !r.matches(m.Topic):
			continue
		case r.Drop:
			return t, i, "the route says drop: true"
		case m.QoS < r.QoS:
			return t, i, "its QoS is lower than the route's qos"
		}
		topic := r.topic.expand(m)
		return Target{legalOr(topic), r.key.expand(m), r.lane, !r.topic.fixed(), r.Tombstone, !r.anonymous}, i, ""
	}
	if strings.HasPrefix(m.Topic, "$") {
		return t, noRoute, "topics that begin with $ are the gateway's own, unless a route names them" // [MQTT-4.7.2-1]
	}
	first, _, _ := strings.Cut(m.Topic, "/")
	return Target{legalOr(first), m.Topic, weir.Live, true, false, true}, noRoute, ""
}

// local reports whether topics that begin so stay on the gateway whatever the routes
// say: only the gateway itself publishes there.
func local(level string) bool { return level == "$SYS" || level == "$share" }

// matches reports whether a topic matches the route's filter.
func (r *Route) matches(topic string) bool {
	return !local(r.levels[0]) && mqtt.FilterMatches(r.Filter, topic)
}

func legalOr(topic string) string {
	if LegalTopic(topic) {
		return topic
	}
	return Unrouted
}

// Warnings describes the routes that can never match.
func (rs Routes) Warnings() (all []string) {
	for i := range rs {
		if local(rs[i].levels[0]) {
			all = append(all, fmt.Sprintf("route %d (%s) can never match: topics that begin with %s stay on the gateway",
				i+1, rs[i].Filter, rs[i].levels[0]))
			continue
		}
		for j := range i {
			if covers(rs[j].levels, rs[i].levels) {
				all = append(all, fmt.Sprintf("route %d (%s) can never match: route %d (%s) comes before it and takes all that it matches",
					i+1, rs[i].Filter, j+1, rs[j].Filter))
				break
			}
		}
	}
	return all
}

// covers reports whether every topic that matches filter b matches filter a.
func covers(a, b []string) bool {
	if wild(a[0]) && strings.HasPrefix(b[0], "$") {
		return false
	}
	if len(b) == 1 && b[0] == "#" {
		b = []string{"+", "#"} // every topic has one level
	}
	for i, want := range a {
		switch {
		case want == "#":
			return true // "x/#" covers "x" as well
		case i >= len(b) || b[i] == "#":
			return false
		case want != "+" && want != b[i]:
			return false
		}
	}
	// Here a has no #. A # or further levels of b match topics that a does not.
	return len(a) == len(b)
}

func wild(level string) bool { return level == "+" || level == "#" }
