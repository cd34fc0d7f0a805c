package mqtt

import (
	"fmt"
	"strconv"
	"time"
)

// systemValues are the messages that the server publishes about itself, by topic below
// $SYS/broker/. They are retained, never stored, and not given to the Backend. Names and meanings
// are mosquitto's.
func (s *Server) systemValues(now time.Time) []systemValue {
	stats, c := s.Stats(), s.count
	number := func(topic string, n uint64) systemValue { return systemValue{topic, strconv.FormatUint(n, 10)} }
	count := func(topic string, n int) systemValue { return number(topic, uint64(max(0, n))) }
	return []systemValue{
		{"version", s.o.Software},
		{"uptime", fmt.Sprintf("%d seconds", int(now.Sub(s.began).Seconds()))},
		count("clients/connected", stats.Clients),
		count("clients/active", stats.Clients),
		count("clients/disconnected", stats.Sessions-stats.Clients),
		count("clients/inactive", stats.Sessions-stats.Clients),
		count("clients/total", stats.Sessions),
		count("clients/maximum", stats.MostClients),
		number("clients/expired", c.expiredSessions.Get()),
		number("messages/received", c.packetsIn.Get()),
		number("messages/sent", uint64(s.outgoing.packets.Load())),
		number("publish/messages/received", stats.Received),
		number("publish/messages/sent", stats.Sent),
		number("publish/messages/dropped", stats.Dropped),
		number("bytes/received", c.bytesIn.Get()),
		number("bytes/sent", uint64(s.outgoing.sent.Load())),
		count("subscriptions/count", stats.Subscriptions),
		count("retained messages/count", stats.Retained),
		count("connections/socket/count", stats.Connections),
	}
}

// systemValue returns the value of one topic below $SYS/broker/.
type systemValue struct{ topic, value string }

// reportSystem publishes what has changed, at once and then periodically, until the server
// closes.
func (s *Server) reportSystem() {
	ticker := time.NewTicker(s.o.SystemInterval)
	defer ticker.Stop()
	known := make(map[string]string)
	for {
		now := time.Now()
		for _, v := range s.systemValues(now) {
			if known[v.topic] == v.value {
				continue
			}
			known[v.topic] = v.value
			m := &Message{Topic: "$SYS/broker/" + v.topic, Payload: []byte(v.value), Retain: true, Version: 4, Accepted: now}
			if !s.queue.put(&work{kind: workSystem, message: m, retain: true}) {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-s.closing:
			return
		}
	}
}
