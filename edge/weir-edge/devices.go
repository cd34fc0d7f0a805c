package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/edge"
)

// deviceFlags are the flags that limit what devices may use. The defaults are for a
// Raspberry Pi Zero.
func (s *settings) deviceFlags(fs *pflag.FlagSet) {
	d := &s.devices
	fs.IntVar(&d.Connections, "mqtt-connections", 2000, "`number` of connections at once to --mqtt, and as many to --mqtts. A connection takes 13 KiB of memory, with TLS 40 KiB")
	fs.IntVar(&d.PerAddress, "mqtt-connections-per-address", 0, "`number` of MQTT connections at once from one IP address. Raise it if many devices share an address (default: half of --mqtt-connections)")
	fs.IntVar(&d.Connecting, "mqtt-connecting", 250, "`number` of MQTT connections that have not logged in yet. If there are more, the oldest are closed")
	configs.DurationVar(fs, &d.ConnectTimeout, "mqtt-connect-timeout", 5*time.Second, "`time` in which a device must send its CONNECT. Raise it for slow links")
	configs.DurationVar(fs, &d.PacketTimeout, "mqtt-packet-timeout", 30*time.Second, "`time` in which the rest of a packet must arrive. A large packet has longer, by --mqtt-packet-rate")
	configs.BytesVar(fs, &d.PacketRate, "mqtt-packet-rate", 2048, "`size` per second at which a large packet must arrive at least. Lower it for slower links")
	configs.BytesVar(fs, &d.Arriving, "mqtt-arriving", 8<<20, "`size` of memory for packets that have arrived in part, at most a quarter of it for one address. Raise it if many devices send large messages at once")
	configs.BytesVar(fs, &d.State, "mqtt-state", 0, "`size` of memory for sessions, subscriptions, wills, retained and queued messages; three times as much of --quota is set aside for them. Raise it for more devices (default: a 64th of --quota, at most 16 MiB)")
	configs.BytesVar(fs, &d.ClientState, "mqtt-client-state", 1<<20, "`size` of the part of --mqtt-state that the session of one client may take, and of the part that its queue may take; at most half of --mqtt-state")
	fs.IntVar(&d.Sessions, "mqtt-sessions", 10000, "`number` of sessions that are kept without a connection. If there are more, the oldest end")
	configs.BytesVar(fs, &d.PacketSize, "mqtt-packet-size", edge.MaxPacket, "`size` of the largest packet that a device may send. A larger one than the default does not fit into a record")
	fs.IntVar(&d.Levels, "mqtt-levels", 200, "`number` of levels that a topic or a filter may have")
	configs.DurationVar(fs, &d.KeepAlive, "mqtt-keep-alive", 0, "longest `time` for which an MQTT 5 device may be silent; it is told so (default: what it asks for)")
	fs.IntVar(&d.ReceiveMaximum, "mqtt-receive-maximum", 256, "`number` of messages that a device may send before it has the acknowledgement of the first")
	fs.IntVar(&d.TopicAliases, "mqtt-topic-aliases", 64, "`number` of topic aliases that an MQTT 5 device may set")
	fs.IntVar(&d.Subscriptions, "mqtt-subscriptions", 1024, "`number` of subscriptions of one session")
	fs.IntVar(&d.Inflight, "mqtt-inflight", 256, "`number` of messages that are sent to a subscriber before it acknowledges the first")
	fs.IntVar(&d.Queued, "mqtt-queued", 1000, "`number` of messages that wait in memory for one subscriber. Raise it for slow subscribers")
	configs.BytesVar(fs, &d.QueuedBytes, "mqtt-queued-bytes", 0, "`size` of the messages that wait in memory for one subscriber (default: twice --mqtt-client-state)")
	configs.BytesVar(fs, &d.QueuedTotal, "mqtt-queued-total", 0, "`size` of the messages that wait in memory for all subscribers (default: half of --mqtt-state)")
	fs.IntVar(&d.Retained, "mqtt-retained", 10000, "`number` of topics that may have a retained message")
	configs.BytesVar(fs, &d.RetainedBytes, "mqtt-retained-bytes", 0, "`size` of all retained messages (default: nine sixteenths of --mqtt-state)")
	configs.DurationVar(fs, &d.SystemInterval, "mqtt-sys-interval", 10*time.Second, "`time` between two reports of the broker in topics below $SYS; 0: no reports")
	configs.BytesVar(fs, &d.Owed, "mqtt-owed", 0, "`size` on the disk, a part of --quota, of the messages that wait for sessions without a connection. If there are more, the oldest are dropped (default: a 16th of --quota)")
	configs.BytesVar(fs, &d.ClientOwed, "mqtt-client-owed", 0, "`size` of the part of --mqtt-owed that one session may take. If there is more, the newest messages are dropped (default: a quarter of --mqtt-owed)")
	configs.DurationVar(fs, &d.SessionExpiry, "mqtt-session-expiry", 7*24*time.Hour, "`time` after which a session without a connection ends; a client may ask for less. 0: never")
}

// checkDevices checks the limits of devices.
func checkDevices(d edge.Devices, quota int64) error {
	for _, flag := range []struct {
		name         string
		value, least int64
	}{
		{"mqtt-connections", int64(d.Connections), 1},
		{"mqtt-connections-per-address", int64(d.PerAddress), 0},
		{"mqtt-connecting", int64(d.Connecting), 1},
		{"mqtt-packet-rate", int64(d.PacketRate), 1},
		{"mqtt-arriving", d.Arriving, 4 << 20},
		{"mqtt-client-state", d.ClientState, 64 << 10},
		{"mqtt-sessions", int64(d.Sessions), 1},
		{"mqtt-packet-size", d.PacketSize, 1 << 10},
		{"mqtt-levels", int64(d.Levels), 1},
		{"mqtt-receive-maximum", int64(d.ReceiveMaximum), 1},
		{"mqtt-topic-aliases", int64(d.TopicAliases), 1},
		{"mqtt-subscriptions", int64(d.Subscriptions), 1},
		{"mqtt-inflight", int64(d.Inflight), 1},
		{"mqtt-queued", int64(d.Queued), 1},
		{"mqtt-queued-bytes", d.QueuedBytes, 0},
		{"mqtt-queued-total", d.QueuedTotal, 0},
		{"mqtt-retained", int64(d.Retained), 1},
		{"mqtt-retained-bytes", d.RetainedBytes, 0},
	} {
		if flag.value < flag.least {
			return fmt.Errorf("--%s %d is less than %d", flag.name, flag.value, flag.least)
		}
	}
	if d.State != 0 && (d.State < 256<<10 || d.State > quota/6) {
		return fmt.Errorf("--mqtt-state %d is not between 256 KiB and a sixth of --quota, %d", d.State, quota/6)
	}
	for _, flag := range []struct {
		name        string
		value, most int64
	}{
		{"mqtt-packet-size", d.PacketSize, edge.MaxPacket},
		{"mqtt-levels", int64(d.Levels), 1000},
		{"mqtt-receive-maximum", int64(d.ReceiveMaximum), 65535},
		{"mqtt-topic-aliases", int64(d.TopicAliases), 65535},
		{"mqtt-inflight", int64(d.Inflight), 10000},
	} {
		if flag.value > flag.most {
			return fmt.Errorf("--%s %d is more than %d", flag.name, flag.value, flag.most)
		}
	}
	if d.Owed != 0 && (d.Owed < 256<<10 || d.Owed > quota/4) {
		return fmt.Errorf("--mqtt-owed %d is not between 256 KiB and a quarter of --quota, %d", d.Owed, quota/4)
	}
	if d.ClientOwed < 0 {
		return fmt.Errorf("--mqtt-client-owed %d is negative", d.ClientOwed)
	}
	for name, d := range map[string]time.Duration{"connect-timeout": d.ConnectTimeout, "packet-timeout": d.PacketTimeout} {
		if d < time.Second {
			return fmt.Errorf("--mqtt-%s %v is less than a second", name, d)
		}
	}
	if k := d.KeepAlive; k != 0 && (k < time.Second || k > 65535*time.Second) {
		return fmt.Errorf("--mqtt-keep-alive %v is not between 1s and 18h12m15s", k)
	}
	if i := d.SystemInterval; i < 0 || i > 0 && i < time.Second {
		return fmt.Errorf("--mqtt-sys-interval %v is less than a second", i)
	}
	if e := d.SessionExpiry; e < 0 || e > 0 && e < time.Second {
		return fmt.Errorf("--mqtt-session-expiry %v is less than a second", e)
	}
	return nil
}
