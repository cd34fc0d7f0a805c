package edge

import (
	"cmp"
	"time"

	"github.com/weirmq/weir/edge/mqtt"
)

// Devices are the limits of what devices may take of a gateway. A zero value
// stands for the default in its comment, that of package mqtt otherwise.
type Devices struct {
	State          int64         // bytes that are remembered of them all; a 64th of the quota, 16 MiB at most
	ClientState    int64         // bytes of one client; 1 MiB, half of State at most
	Sessions       int           // that outlive their connection
	Owed           int64         // bytes on the disk of what such sessions are owed; a 16th of the quota
	ClientOwed     int64         // bytes of it of one session; a quarter of Owed
	SessionExpiry  time.Duration // after which a session without connection ends; 0: never
	Connections    int           // of each listener
	PerAddress     int           // of them, from one address
	Connecting     int           // of them, of devices that have not logged in
	Arriving       int64         // bytes of packets that have not arrived whole
	ConnectTimeout time.Duration // from accept to CONNECT
	PacketTimeout  time.Duration // for the rest of a packet
	PacketRate     int           // bytes a second that a large packet must have

	PacketSize     int64         // bytes of a whole packet
	Levels         int           // of topics and filters
	KeepAlive      time.Duration // longest one granted to MQTT 5 clients; 0: whatever they ask
	ReceiveMaximum int           // PUBLISH packets of one client that have no answer yet
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
	maxState    = 16 << 20  // bytes, unless a flag says more
	stateShare  = 64        // of the quota, a part as large as this is State
	owedShare   = 16        // of the quota, a part as large as this is Owed
	stateCopies = 3         // of State: the state file is this large at most, with the copy that a rewrite makes
	letterShare = 10        // of the quota, a part as large as this is for refused letters
	maxLetters  = 128 << 20 // bytes of refused letters
	maxQueue    = 4 << 20   // bytes of messages that wait for the local log
)

// State is how many bytes are remembered of devices when the local log and
// the state file together may have quota bytes.
func (o Options) state() int64 {
	return cmp.Or(o.Devices.State, min(maxState, o.Quota/stateShare))
}

// letterQuota is how many bytes of the quota refused letters may take.
func (o Options) letterQuota() int64 { return min(o.Quota/letterShare, maxLetters) }

// owed is how many bytes what sessions are owed may have on the disk.
func (o Options) owed() int64 { return cmp.Or(o.Devices.Owed, o.Quota/owedShare) }

// logQuota is what the state file, what sessions are owed and refused letters leave
// of the quota to the local log.
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
