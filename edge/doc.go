// Package edge is a gateway: devices speak MQTT to it, every message it accepts
// is fsynced in its local log before it is acknowledged, and a sender carries
// the log to the cloud over QUIC whenever there is a link.
//
// edge.go wires edge/mqtt to edge/wal to sync/sender; backend.go is what the
// MQTT server stores into, uplink.go what the sender reads from.
package edge
