package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake (key 17): the client chooses a SASL mechanism.
//
// Behaviour:
//   - It must be one of the listener's mechanisms, which the answer lists.
//   - On a connection that has logged in, it begins another login if logins expire on
//     this listener (KIP-368). Otherwise it is an error, as on a listener without
//     logins.
//
// Versions:
//   - v0: messages follow without a Kafka frame. Advertised (see
//     table), refused on receipt: clients since Kafka 1.0 know v1.
//   - v1: SaslAuthenticate follows (KIP-152)

const firstHandshake = 1

func (s *Server) saslHandshake(_ context.Context, r *request, q *kmsg.SASLHandshakeRequest) (*kmsg.SASLHandshakeResponse, error) {
	if q.Version < firstHandshake {
		return nil, violated("version %d of SaslHandshake is not served", q.Version)
	}
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.Version = q.Version
	c := r.conn
	resp.SupportedMechanisms = c.listener.SASL
	again := c.session.Known()
	switch {
	case len(c.listener.SASL) == 0, c.login != nil, again && !c.session.Expires():
		resp.ErrorCode = kerr.IllegalSaslState.Code
	case !slices.Contains(c.listener.SASL, q.Mechanism):
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
	default:
		var err error
		if c.login, err = c.begin(q.Mechanism); err != nil {
			return nil, err
		}
		return resp, nil
	}
	r.last = !again
	return resp, nil
}
