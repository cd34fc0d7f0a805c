package sender

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// Errors with which Run gives up: nothing but a person can help. All others
// are retried for ever and shown in State.
var (
	// ErrForeign: the cloud is not the one that this gateway joined, or it
	// does not know this gateway's certificate.
	ErrForeign = errors.New("gateway and cloud do not belong together: join again")
	// ErrRevoked: the cloud does not want this gateway any more.
	ErrRevoked = errors.New("gateway is revoked")
	// ErrExpired: the certificate expired so long ago that it cannot renew.
	ErrExpired = errors.New("gateway certificate is beyond renewal: join again")
	// ErrIdentity: the gateway id is not the name in the certificate.
	ErrIdentity = errors.New("gateway id is not the one that joined")
)

var (
	errRejected = errors.New("certificate is foreign or revoked")
	errRenewed  = errors.New("certificate renewed")
	errSilent   = errors.New("the cloud does not answer")
	errProtocol = errors.New("the cloud broke the protocol")
	errClosed   = errors.New("sender closed")
)

// redirectError says where the owner is.
type redirectError struct{ addr string }

func (e *redirectError) Error() string { return "redirected to " + e.addr }

// permanent returns the error to give up with, nil when trying again may help.
func permanent(err error) error {
	closed, ok := errors.AsType[*wire.CloseError](err)
	switch {
	case errors.Is(err, join.ErrForeign), errors.Is(err, errRejected):
		return fmt.Errorf("%w (%w)", ErrForeign, err)
	case errors.Is(err, join.ErrTooOld):
		return fmt.Errorf("%w (%w)", ErrExpired, err)
	case errors.Is(err, join.ErrRevoked), ok && closed.Code == wire.CodeRevoked:
		return fmt.Errorf("%w (%w)", ErrRevoked, err)
	case ok && closed.Code == wire.CodeIdentity:
		return fmt.Errorf("%w (%w)", ErrIdentity, err)
	}
	return nil
}
