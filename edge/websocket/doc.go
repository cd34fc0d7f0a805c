// Package websocket carries MQTT over WebSocket, [MQTT-6.0.0-1] to [MQTT-6.0.0-4]. It is a listener
// whose connections are streams of bytes, like those of TCP.
//
// Until its server calls Handshake, which reads the HTTP request, a connection uses nothing but its
// socket. So a server's limits of connections, time and memory also apply to WebSockets.
package websocket
