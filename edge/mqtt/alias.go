package mqtt

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Limits of one connection's outbound aliases. The first topics get one.
const (
	maxOutAliases = 32
	maxOutNames   = 2 << 10 // bytes of topic names
	shortTopic    = 4       // bytes of a topic for which an alias saves nothing
)

// outAliases are the topic aliases that were sent to a client on this connection
// (§3.3.2.3.4). A message gets its alias when it is written, so that no alias is used
// before the packet that sets it.
type outAliases struct {
	limit uint16            // how many the client takes; 0: none
	names map[string]uint16 // nil: none yet
	bytes int               // of names
}

// use puts the topic's alias into pk. A topic without an alias gets one if there is room.
func (a *outAliases) use(pk *packets.Packet) {
	alias, known := a.names[pk.TopicName]
	switch {
	case known:
		pk.TopicName = ""
	case len(a.names) < min(int(a.limit), maxOutAliases) && len(pk.TopicName) > shortTopic &&
		a.bytes+len(pk.TopicName) <= maxOutNames:
		alias = uint16(len(a.names) + 1)
	default:
		return
	}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = alias, true
}

// sent notes that pk was written.
func (a *outAliases) sent(pk *packets.Packet) {
	if !pk.Properties.TopicAliasFlag || pk.TopicName == "" {
		return
	}
	if a.names == nil {
		a.names = make(map[string]uint16)
	}
	// Clone the name: it is part of the packet that it came in.
	a.names[strings.Clone(pk.TopicName)] = pk.Properties.TopicAlias
	a.bytes += len(pk.TopicName)
}
