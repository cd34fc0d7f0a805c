// Package websocket carries MQTT over WebSocket: a listener whose connections are
// streams of bytes, as those of TCP are. [MQTT-6.0.0-1] to [MQTT-6.0.0-4].
//
// A connection costs nothing but its socket until its server calls Handshake, which
// reads the HTTP request: a server that bounds its connections, their time and their
// memory bounds these too.
package websocket
