package receiver

import (
	"errors"
	"io"
	"log/slog"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// codeOf maps the reason why a session ends to the code on the wire. There is no other
// such table.
func codeOf(err error) wire.Code {
	if _, ok := errors.AsType[*uplink.NotOwnerError](err); ok {
		return wire.CodeRedirect
	}
	for _, row := range []struct {
		err  error
		code wire.Code
	}{
		{wire.ErrMalformed, wire.CodeProtocol},
		{wire.ErrTooLarge, wire.CodeProtocol},
		{io.ErrUnexpectedEOF, wire.CodeProtocol},
		{errDone, wire.CodeNone},
		{errRenewed, wire.CodeNone},
		{uplink.ErrSuperseded, wire.CodeSuperseded},
		{errTimeout, wire.CodeTimeout},
		{errStalled, wire.CodeTimeout},
		{errNotRead, wire.CodeTimeout},
		{errIdentity, wire.CodeIdentity},
		{errExpired, wire.CodeExpired},
		{join.ErrRevoked, wire.CodeRevoked},
		{ErrClosed, wire.CodeShutdown},
		{uplink.ErrRetired, wire.CodeShutdown},
	} {
		if errors.Is(err, row.err) {
			return row.code
		}
	}
	return wire.CodeBusy
}

// report logs the end of a session, once, for the operator.
func (s *session) report(cause error) {
	_, gone := errors.AsType[*wire.CloseError](cause)
	code := codeOf(cause)
	if code == wire.CodeProtocol && !gone {
		s.r.countViolation(&s.r.gateways)
	}
	log := s.line()
	switch {
	case gone, code == wire.CodeNone:
		log.Info("gateway disconnected", "err", cause)
	case code == wire.CodeProtocol:
		log.Warn("gateway broke the protocol: connection closed", "err", cause)
	case errors.Is(cause, errStalled), errors.Is(cause, errNotRead):
		log.Warn("gateway stands still and holds memory that others need: connection closed", "err", cause)
	default:
		log.Info("gateway's session ended", "code", code, "err", cause)
	}
}

// line returns the logger for one line about the session. It is silent if the session's
// address has caused too many lines.
func (s *session) line() *slog.Logger {
	may, unlogged := s.r.guard.mayLog(s.peer.Addr, false)
	switch {
	case !may:
		return slog.New(slog.DiscardHandler)
	case unlogged > 0:
		return s.log.With("unlogged", unlogged)
	}
	return s.log
}
