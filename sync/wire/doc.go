// Package wire is the codec of the sync protocol: the frames that a gateway and a node
// exchange. It does not act on them. PROTOCOL.md, one directory up, is the byte-level
// specification; every frame type has a file here.
//
// The codec works over any ordered byte stream and keeps no state between frames. A
// frame's length is checked against a hard cap before its body is allocated. A count
// inside a body is checked against the bytes that are left before anything is allocated
// for it. So a peer cannot make the reader use memory for bytes that it did not send. A
// body must be used up exactly: bytes left over are an error, not an extension.
package wire
