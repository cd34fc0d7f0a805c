package sender

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// Refusals: why the other end does not take this gateway's records, to be tested with
// errors.Is on State.Refused. Run continues all the same: the gateway keeps its
// records, and the cause may be fixed later.
var (
	// ErrForeign: the other end has no certificate of the CA that this gateway joined.
	// Anybody can answer at an address, so this proves nothing.
	ErrForeign = errors.New("another cloud answers at this address, or a stranger")
	// ErrRejected: the cloud does not know this gateway's certificate, or a
	// node's clock is wrong.
	ErrRejected = errors.New("the cloud does not accept this gateway's certificate")
	// ErrRevoked: the cloud has revoked this gateway.
	ErrRevoked = errors.New("gateway is revoked")
	// ErrExpired: the certificate expired so long ago that it cannot renew.
	ErrExpired = errors.New("gateway certificate is beyond renewal")
	// ErrIdentity: the gateway id is not the name in the certificate.
	ErrIdentity = errors.New("gateway id is not the one that joined")
)

var (
	errRejected = errors.New("certificate is foreign or revoked")
	errRenewed  = errors.New("certificate renewed")
	errTooSoon  = errors.New("the cloud says that a certificate which it has just renewed has expired: the clocks of its nodes differ")
	errSilent   = errors.New("the cloud does not answer")
	errProtocol = errors.New("the cloud broke the protocol")
	errClosed   = errors.New("sender has ended")
)

// refusalRow is what people and probes learn about a refusal.
type refusalRow struct {
	err  error
	word string // for metrics and health
	do   string // what a person can do
}

func refusals() []refusalRow {
	return []refusalRow{
		{ErrForeign, "foreign", "check --cloud and the names it uses; if the cloud was set up anew, join it with a new token"},
		{ErrRejected, "rejected", "check the clocks of the cloud's nodes; if the cloud was set up anew, join it with a new token"},
		{ErrRevoked, "revoked", "if it should send again: weirctl gateways reset, then a new join token"},
		{ErrExpired, "expired", "join again with a new token"},
		{ErrIdentity, "identity", "weirctl gateways reset, then a new join token"},
	}
}

// Refusal returns a word for why the other end refuses this gateway, and what a
// person can do about it. Both are empty for an error that is not a refusal.
func Refusal(err error) (word, do string) {
	for _, r := range refusals() {
		if errors.Is(err, r.err) {
			return r.word, r.do
		}
	}
	return "", ""
}

// byStranger reports whether a refusal came only from an address that may not be the
// gateway's cloud.
func byStranger(refused error) bool {
	return errors.Is(refused, ErrForeign) || errors.Is(refused, ErrRejected)
}

// redirectError names the owner.
type redirectError struct{ addr string }

func (e *redirectError) Error() string { return "redirected to " + e.addr }

// refusal returns why the other end refuses this gateway, nil if the session ended for
// another reason.
func refusal(err error) error {
	closed, ok := errors.AsType[*wire.CloseError](err)
	switch {
	case errors.Is(err, join.ErrForeign):
		return fmt.Errorf("%w (%w)", ErrForeign, err)
	case errors.Is(err, join.ErrTooOld):
		return fmt.Errorf("%w (%w)", ErrExpired, err)
	case errors.Is(err, errRejected):
		return fmt.Errorf("%w (%w)", ErrRejected, err)
	case errors.Is(err, join.ErrRevoked), ok && closed.Code == wire.CodeRevoked:
		return fmt.Errorf("%w (%w)", ErrRevoked, err)
	case ok && closed.Code == wire.CodeIdentity:
		return fmt.Errorf("%w (%w)", ErrIdentity, err)
	}
	return nil
}
