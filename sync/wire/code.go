package wire

import "fmt"

// Code says why a session ends. It is the code of a Goodbye and, where the
// transport has one, its application error code.
type Code uint16

const (
	CodeNone       Code = iota // the peer has finished; nothing is wrong
	CodeShutdown               // the node stops; dial again
	CodeSuperseded             // the same gateway said Hello on a newer session
	CodeRevoked                // the certificate was revoked: permanent
	CodeExpired                // the certificate expired: it may only renew
	CodeIdentity               // the gateway id is not the certificate's name: permanent
	CodeBusy                   // too many gateways, or the log cannot be reached; dial again later
	CodeProtocol               // the peer broke the protocol
	CodeRedirect               // another node is the owner, a Redirect names it
	CodeTimeout                // the peer went silent
	CodeInternal               // an error at this end
)

func (c Code) String() string {
	names := [...]string{"done", "shutdown", "superseded", "revoked", "expired", "identity",
		"busy", "protocol", "redirect", "timeout", "internal"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// CloseError is what reads and writes return on a session that the peer closed.
type CloseError struct {
	Code Code
	Text string
}

func (e *CloseError) Error() string {
	if e.Text == "" {
		return "peer closed: " + e.Code.String()
	}
	return "peer closed: " + e.Code.String() + ": " + e.Text
}

// TooManyTopics is part of the text of a Topic that is refused because the gateway, or
// the cluster, has reached its limit of topics.
const TooManyTopics = "too many topics"

// NoSuchName is part of the text of a Topic that is refused because the name is not
// valid, or too similar to the name of another topic.
const NoSuchName = "no topic can have this name"

// Reason says why an Append, a Gap or a Resolve was refused.
type Reason uint8

const (
	ReasonNone       Reason = iota
	ReasonHole              // previous sequence and mark differ: start again from the mark
	ReasonMoved             // the partition is changing its owner: wait
	ReasonBusy              // the log cannot take it now: wait
	ReasonGone              // there is no topic with this id any more: for good
	ReasonTooLarge          // beyond the topic's or the node's limit: for good
	ReasonNotAllowed        // this gateway may not write there: for good
	ReasonCorrupt           // not a valid record batch: for good
)

// ForGood reports whether sending the same bytes again can never succeed.
func (r Reason) ForGood() bool { return r >= ReasonGone && r <= ReasonCorrupt }

func (r Reason) String() string {
	names := [...]string{"none", "hole", "moved", "busy", "gone", "too-large", "not-allowed", "corrupt"}
	if int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

func (c *decoder) reason() Reason {
	r := Reason(c.Byte())
	if r > ReasonCorrupt {
		c.fail("unknown reason")
	}
	return r
}
