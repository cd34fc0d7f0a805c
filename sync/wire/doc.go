// Package wire is the codec of the sync protocol: the frames that a gateway and
// a node exchange, and nothing that acts on them. PROTOCOL.md, one directory
// up, is the byte-level specification; every frame type has a file here.
//
// The codec is pure: it works over any ordered byte stream and keeps no state
// between frames. A frame's length is checked against a hard cap before its
// body is allocated, and a count inside a body is checked against the bytes
// that are left before anything is allocated for it, so a peer cannot make the
// reader spend memory that it did not send. A body must be used up exactly:
// bytes left over are an error, not an extension.
package wire
