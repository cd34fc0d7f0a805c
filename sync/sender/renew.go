package sender

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// renewInterval is the least time between two requests for a certificate.
const renewInterval = time.Hour

// renewable reports whether two thirds of the certificate's life are over.
func (n *session) renewable() bool {
	id := n.s.o.Identity
	if id == nil {
		return false
	}
	leaf := id.Leaf()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return n.s.clock.cloud(leaf.NotBefore).After(leaf.NotBefore.Add(life / 3 * 2))
}

func (n *session) askRenewal() error {
	csr, err := n.s.o.Identity.CSR()
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return n.send(&wire.Renew{CSR: csr})
}

// renewFirst is a session that only renews: with an expired certificate nothing else is
// allowed. It returns errRenewed when the next session may say Hello. The cloud's clock
// decides whether the certificate has expired: to a gateway whose clock is ahead, even
// a renewed one would seem expired.
func (n *session) renewFirst() error {
	n.s.renewNext = false
	if at := n.s.renewed; !at.IsZero() && time.Since(at) < renewInterval {
		return errTooSoon
	}
	if err := n.askRenewal(); err != nil {
		return err
	}
	f, err := n.read()
	if err != nil {
		return err
	}
	c, ok := f.(*wire.Certificate)
	if !ok {
		return fmt.Errorf("frame type %#02x instead of a certificate: %w", f.Type(), errProtocol)
	}
	if c.Reason == wire.ReasonNotAllowed {
		return fmt.Errorf("renew certificate: %w (%s)", join.ErrRevoked, c.Text)
	}
	if c.Reason != wire.ReasonNone {
		return fmt.Errorf("renew certificate: refused, %s: %s", c.Reason, c.Text)
	}
	if err := n.takeCertificate(c); err != nil {
		return err
	}
	n.s.renewed = time.Now()
	return errRenewed
}

// takeCertificate stores a new certificate. The running session keeps the old one, the
// next dial uses the new one. A refusal does not stop the session: the gateway asks
// again later.
func (n *session) takeCertificate(c *wire.Certificate) error {
	id := n.s.o.Identity
	if id == nil {
		return fmt.Errorf("unexpected certificate: %w", errProtocol)
	}
	if c.Reason != wire.ReasonNone {
		n.s.log.Warn("certificate not renewed: trying again later", "reason", c.Reason, "err", c.Text, "expires", id.Leaf().NotAfter)
		return nil
	}
	switch err := id.Renew(c.DER); {
	case errors.Is(err, join.ErrNotStored):
		n.s.log.Error("certificate renewed but not stored: it is renewed again after a restart", "err", err)
	case err != nil:
		return fmt.Errorf("use renewed certificate: %w", err)
	}
	n.s.log.Info("certificate renewed", "expires", id.Leaf().NotAfter)
	return nil
}
