package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// SaslAuthenticate (key 36): one message of the chosen mechanism, and the answer to
// it.
//
// Behaviour:
//   - A login that fails is answered late with SASL_AUTHENTICATION_FAILED, and closes
//     the connection. The answer does not distinguish an unknown user from a wrong
//     password; the log names the user, and never a secret.
//   - A login that succeeds lasts as long as the listener says, and no longer than
//     its token. After that only another login, of the same user by the same
//     mechanism, is accepted on this connection (KIP-368).
//
// Versions:
//   - v1: lifetime of the session; v2: flexible
func (s *Server) saslAuthenticate(ctx context.Context, r *request, q *kmsg.SASLAuthenticateRequest) (*kmsg.SASLAuthenticateResponse, error) {
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	resp.Version = q.Version
	resp.SASLAuthBytes = []byte{}
	c := r.conn
	l := c.login
	if l == nil {
		resp.ErrorCode, r.last = kerr.IllegalSaslState.Code, !c.session.Known()
		return resp, nil
	}
	answer, done, err := l.Step(ctx, q.SASLAuthBytes)
	if err == nil && done != nil {
		c.login = nil
		var life time.Duration
		if life, err = c.welcome(l, done); err == nil {
			resp.SessionLifetimeMillis = life.Milliseconds()
		}
	}
	if err != nil {
		if ctx.Err() != nil || errors.Is(err, login.ErrChanged) {
			return nil, err
		}
		r.last = true
		return resp, s.refuse(ctx, c, l, err, resp)
	}
	resp.SASLAuthBytes = append(resp.SASLAuthBytes, answer...)
	return resp, nil
}

// refuse answers a login that failed, after a pause. Package login makes an address
// that keeps guessing wait longer before its next try.
func (s *Server) refuse(ctx context.Context, c *conn, l *login.Login, reason error, resp *kmsg.SASLAuthenticateResponse) error {
	var refused *login.Refused
	if known := errors.As(reason, &refused); !known || refused.Log {
		args := []any{"address", c.peer, "listener", c.listener.Name, "mechanism", l.Mechanism, "user", l.User(), "err", reason}
		if known && refused.Unlogged > 0 {
			args = append(args, "unlogged", refused.Unlogged)
		}
		s.o.Log.Warn("kafka login failed", args...)
	}
	s.count.logins[l.Mechanism].Inc()
	c.login = nil
	resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
	text := errLogin
	if errors.Is(reason, auth.ErrCredentials) {
		text = auth.ErrCredentials
	}
	resp.ErrorMessage = message(text)
	timer := time.NewTimer(s.o.LoginPause)
	defer timer.Stop()
	defer stopwatch.Waiting(ctx)()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
