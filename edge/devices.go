package edge

import (
	"cmp"
	"time"

	"github.com/weirmq/weir/edge/mqtt"
)

// Devices limits what devices may use of a gateway. Zero stands for the default in
// the field's comment, or else for that of package mqtt.
type Devices struct {
	State          int64         // bytes remembered of all devices; a 64th of the quota, 16 MiB at most
	ClientState    int64         // bytes remembered of one client; 1 MiB, half of State at most
	Sessions       int           // sessions that outlive their connection
	Owed           int64         // bytes on the disk that such sessions are owed; a 16th of the quota
	ClientOwed     int64         // bytes that one session is owed; a quarter of Owed
	SessionExpiry  time.Duration // after which a session without connection ends; 0: never
	Connections    int           // of each listener
	PerAddress     int           // from one address, of Connections
	Connecting     int           // not logged in yet, of Connections
	Arriving       int64         // bytes of packets that have not arrived completely
	ConnectTimeout time.Duration // from accept to CONNECT
	PacketTimeout  time.Duration // for the rest of a packet
	PacketRate     int           // lowest rate of a large packet, in bytes a second

	PacketSize     int64         // bytes of a whole packet
	Levels         int           // of topics and filters
	KeepAlive      time.Duration // longest one granted to MQTT 5 clients; 0: whatever they ask
	ReceiveMaximum int           // PUBLISH packets of one client that are not answered yet
	TopicAliases   int           // of one client
	Subscriptions  int           // of one session
	Inflight       int           // messages that one subscriber has not acknowledged
	Queued         int           // messages waiting for one subscriber
	QueuedBytes    int64         // their bytes; ClientState
	QueuedTotal    int64         // bytes waiting for all of them; half of State
	Retained       int           // topics with a retained message
	RetainedBytes  int64         // a third of State
	SystemInterval time.Duration // between two reports below $SYS; 0: none
}

const (
	maxState    = 16 << 20  // bytes of State, unless a flag sets it
	stateShare  = 64        // State is this part of the quota
	owedShare   = 16        // Owed is this part of the quota
	stateCopies = 3         // times State: the largest size of the state file together with the copy that a rewrite makes
	letterShare = 10        // refused letters get this part of the quota
	maxLetters  = 128 << 20 // bytes of refused letters
	maxQueue    = 4 << 20   // bytes of messages that wait for the local log
)

// state returns how many bytes may be remembered of devices, when the local log and
// the state file together may have quota bytes.
func (o Options) state() int64 {
	return cmp.Or(o.Devices.State, min(maxState, o.Quota/stateShare))
}

// letterQuota returns how many bytes of the quota refused letters may take.
func (o Options) letterQuota() int64 { return min(o.Quota/letterShare, maxLetters) }

// owed returns how many bytes on the disk sessions may be owed.
func (o Options) owed() int64 { return cmp.Or(o.Devices.Owed, o.Quota/owedShare) }

// logQuota returns the part of the quota that is left to the local log by the state
// file, what sessions are owed, and refused letters.
func (o Options) logQuota() int64 {
	return o.Quota - stateCopies*o.state() - o.owed() - o.letterQuota()
}

// limits are the options of the MQTT server that bound what devices take.
func (o Options) limits() mqtt.Options {
	d := o.Devices
	return mqtt.Options{
		MaxPacketSize: int(cmp.Or(d.PacketSize, MaxPacket)), MaxTopicLevels: d.Levels, QueueBytes: maxQueue,
		MaxState: int(o.state()), MaxClientState: int(min(cmp.Or(d.ClientState, 1<<20), o.state()/2)),
		MaxClientOwed: int(cmp.Or(d.ClientOwed, o.owed()/4)),
		MaxSessions:   d.Sessions, MaxSessionExpiry: d.SessionExpiry,
		MaxConnections: d.Connections, MaxPerAddress: d.PerAddress, MaxConnecting: d.Connecting,
		MaxArriving: int(d.Arriving), ConnectTimeout: d.ConnectTimeout, PacketTimeout: d.PacketTimeout, PacketRate: d.PacketRate,
		ServerKeepAlive: uint16(d.KeepAlive / time.Second), ReceiveMaximum: uint16(d.ReceiveMaximum), TopicAliasMaximum: uint16(d.TopicAliases),
		MaxSubscriptions: d.Subscriptions, MaxInflight: d.Inflight, MaxQueued: d.Queued, MaxQueuedBytes: int(d.QueuedBytes),
		MaxQueuedTotal: int(d.QueuedTotal), MaxRetained: d.Retained, MaxRetainedBytes: int(d.RetainedBytes),
		SystemInterval: d.SystemInterval, Software: o.Software,
	}
}
