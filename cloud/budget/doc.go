// Package budget bounds what peers may use of a server: memory (Pool), connections
// (Conns), and attempts to guess a secret (Penalties). Each bound has a part that
// strangers and large requests cannot use up, so that a peer that has logged in never
// waits for one that has not.
//
//   - Pool counts bytes that have arrived, never bytes that were announced.
//   - Frame reads a frame piece by piece, takes memory from a Pool for each piece,
//     and fails when the peer stops sending.
//   - Conns counts connections by listener and by address.
//   - Penalties makes an address wait after a wrong secret, longer each time.
//   - Episode writes one log line when a trouble begins, and one when it is over.
//
// The package imports the standard library only: weir-edge uses it as well.
package budget
