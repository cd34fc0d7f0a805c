package join

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of joining and of certificates, to be tested with errors.Is. Each is
// one sentence that a person can act on.
var (
	ErrTokenMalformed = errors.New("join token is malformed: copy all of it, from weir1 on")
	ErrTokenUnknown   = errors.New("join token is not known to this cloud")
	ErrTokenSpent     = errors.New("join token was used up: ask for a new one")
	ErrTokenExpired   = errors.New("join token has expired: ask for a new one")
	ErrTokenBound     = errors.New("join token is for another gateway")
	ErrGatewayTaken   = errors.New("another gateway has joined under this id")
	ErrGatewayID      = errors.New("gateway id must be 1 to 64 letters, digits, dots, underscores or hyphens, and begin with a letter or digit")
	ErrRequest        = errors.New("certificate request is not valid")
	ErrUnavailable    = errors.New("the cloud cannot let a gateway join now")

	// ErrForeign: the peer's certificate is not signed by the expected CA.
	ErrForeign = errors.New("certificate is of another CA")
	// ErrExpired: the certificate has expired; it may still renew itself.
	ErrExpired = errors.New("certificate has expired")
	// ErrTooOld: the certificate expired so long ago that it cannot renew.
	ErrTooOld = errors.New("certificate expired too long ago to be renewed: join again")
	// ErrNotYet: the certificate is not valid yet, or a clock is wrong.
	ErrNotYet = errors.New("certificate is not valid yet: set the clock")
	// ErrRevoked: the cloud does not accept this gateway any more.
	ErrRevoked = errors.New("gateway is revoked")

	// ErrSecret: the CA was wrapped with another secret, or a secret is needed and none
	// was given.
	ErrSecret = errors.New("the secret does not decrypt the CA key")
	// ErrNotStored: a renewed certificate could not be written to disk.
	ErrNotStored = errors.New("certificate is not stored")
	// ErrCorrupt: stored bytes are not what was stored.
	ErrCorrupt = errors.New("stored identity is corrupt")
)

// verdicts are the numbers in a JoinResponse. New ones go to the end.
func verdicts() []error {
	return []error{nil, ErrTokenUnknown, ErrTokenSpent, ErrTokenExpired, ErrTokenBound,
		ErrGatewayTaken, ErrGatewayID, ErrRequest, ErrUnavailable, ErrTokenMalformed, ErrRevoked}
}

// Verdict returns the number by which err travels in a JoinResponse. An error without a
// number travels as ErrUnavailable.
func Verdict(err error) uint8 {
	if err == nil {
		return 0
	}
	for i, v := range verdicts() {
		if v != nil && errors.Is(err, v) {
			return uint8(i)
		}
	}
	return Verdict(ErrUnavailable)
}

// VerdictError returns the error that travelled as v, nil for 0.
func VerdictError(v uint8, text string) error {
	all := verdicts()
	if int(v) >= len(all) {
		return fmt.Errorf("verdict %d: %s: %w", v, text, ErrUnavailable)
	}
	switch err := all[v]; {
	case err == nil || text == "" || text == err.Error():
		return err
	case strings.Contains(text, err.Error()):
		return told{text, err}
	default:
		return fmt.Errorf("%w (%s)", err, text)
	}
}

// told is an error in the words of the other end. Its text says all that our own would.
type told struct {
	text string
	is   error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.is }
