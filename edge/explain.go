package edge

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/storage/record"
)

// ErrStays: messages of the topic stay on the gateway.
var ErrStays = errors.New("messages of this topic stay on the gateway")

// Explain writes where a message goes: which route matches, the topic, and the headers
// of its record. If the message stays on the gateway it writes why, and returns
// ErrStays.
func (rs Routes) Explain(w io.Writer, m Origin, retain bool) error {
	switch {
	case m.Topic == "":
		return errors.New("the topic is empty")
	case strings.ContainsAny(m.Topic, "+#"):
		return fmt.Errorf("%q is a filter: the topic of a message has no + and no #", m.Topic)
	}
	to, route, stays := rs.decide(&m)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	if route == noRoute {
		line("route", "none matches: the first level is the Kafka topic")
	} else {
		line("route", "%d, %s", route+1, rs[route].Filter)
	}
	if stays != "" {
		return fmt.Errorf("%w: %s", ErrStays, stays)
	}
	line("topic", "%s%s", to.Topic, rs.whyUnrouted(&m, to, route))
	line("key", "%s", to.Key)
	line("lane", "%s", to.Lane)
	if route != noRoute {
		line("qos", "%d and above", rs[route].QoS)
	}
	message := &mqtt.Message{Topic: m.Topic, ClientID: m.Client, QoS: m.QoS, Retain: retain, Version: 5, Payload: []byte("…")}
	r, _ := encode(message, to, new(arena))
	headers := withGateway(r.Headers, []byte(m.Gateway))
	if len(headers) == 0 {
		line("headers", "none, but for properties of MQTT 5")
	}
	for i, h := range headers {
		name := ""
		if i == 0 {
			name = "headers"
		}
		line(name, "%s: %s", h.Key, h.Value)
	}
	if to.Tombstone {
		line("tombstone", "an empty retained payload deletes the key in a compacted topic")
	}
	return nil
}

// whyUnrouted returns why a message goes to Unrouted; "" if it does not, or if the
// route or the message names that topic itself.
func (rs Routes) whyUnrouted(m *Origin, to Target, route int) string {
	name, _, _ := strings.Cut(m.Topic, "/")
	if route != noRoute {
		name = rs[route].topic.expand(m)
	}
	if to.Topic != Unrouted || name == Unrouted {
		return ""
	}
	return fmt.Sprintf(" (%q cannot be the name of a topic that gateways write to)", name)
}

// withGateway adds the header that names the gateway to records with the header that
// names the client.
func withGateway(headers []record.Header, gateway []byte) []record.Header {
	if len(headers) == 0 || headers[0].Key != headerClient {
		return headers
	}
	return append([]record.Header{{Key: headerGateway, Value: gateway}}, headers...)
}
