// Package budget bounds what peers may take of a server: memory (Pool), connections
// (Conns), and tries at a secret (Penalties). Each bound has a part that strangers
// and large requests cannot use up, so that nobody who has logged in has to wait for
// somebody who has not.
//
//   - Pool counts bytes that have arrived, never bytes that were announced.
//   - Frame reads a frame piece by piece, pays a Pool for each piece, and ends when
//     the peer stops sending.
//   - Conns counts connections by listener and by address.
//   - Penalties makes an address wait after a wrong secret, for longer each time.
//   - Episode writes one log line when a trouble begins, and one when it is over.
//
// The package imports the standard library only: weir-edge uses it as well.
package budget
