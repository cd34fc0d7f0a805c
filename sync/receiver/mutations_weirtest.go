//go:build weirtest

package receiver

// Mutations break single rules of the protocol, so that a model test can show
// that it notices. They are there in a build with the tag weirtest only.
type Mutations struct {
	AckEarly   bool // ack what was handed to the log, before it is durable
	KeepOlder  bool // leave a gateway's older session running beside the new one
	MarkAtOnce bool // answer a refusal with the mark 0 instead of waiting for the durable one
	InTurn     bool // answer requests and refusals one after the other, whatever they wait for
	KeepWhole  bool // a refused frame counts with all its bytes until the gateway is told
}

func ackEarly(m Mutations) bool   { return m.AckEarly }
func keepOlder(m Mutations) bool  { return m.KeepOlder }
func markAtOnce(m Mutations) bool { return m.MarkAtOnce }
func inTurn(m Mutations) bool     { return m.InTurn }
func keepWhole(m Mutations) bool  { return m.KeepWhole }
