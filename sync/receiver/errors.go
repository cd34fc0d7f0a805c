package receiver

import (
	"errors"
	"io"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// codeOf is the one table from why a session ends to the code on the wire.
func codeOf(err error) wire.Code {
	if _, ok := errors.AsType[*NotOwnerError](err); ok {
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
		{errSuperseded, wire.CodeSuperseded},
		{errTimeout, wire.CodeTimeout},
		{errIdentity, wire.CodeIdentity},
		{errExpired, wire.CodeExpired},
		{join.ErrRevoked, wire.CodeRevoked},
		{ErrClosed, wire.CodeShutdown},
		{ErrRetired, wire.CodeShutdown},
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
	switch code := codeOf(cause); {
	case gone, code == wire.CodeNone:
		s.log.Info("gateway disconnected", "cause", cause)
	case code == wire.CodeProtocol:
		s.r.count.protocol.Inc()
		s.log.Warn("gateway broke the protocol, connection closed", "err", cause)
	default:
		s.log.Info("session ended", "code", code, "cause", cause)
	}
}
