// Package edge is a gateway. Devices speak MQTT to it. Every message that it accepts is
// fsynced in its local log before it is acknowledged. A sender delivers the log to the
// cloud over QUIC whenever there is a link.
//
// edge.go connects edge/mqtt, edge/wal and sync/sender. The MQTT server stores into
// backend.go, and the sender reads from uplink.go.
package edge
