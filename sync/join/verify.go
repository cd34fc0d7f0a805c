package join

import (
	"crypto/x509"
	"fmt"
	"time"
)

// CheckClient checks a gateway's certificate against the CA at a time: nil,
// ErrExpired while it may still renew, ErrTooOld, ErrNotYet, ErrForeign.
func CheckClient(cert, ca *x509.Certificate, now time.Time) error {
	if err := chain(cert, ca, x509.ExtKeyUsageClientAuth); err != nil {
		return err
	}
	if isNode(cert) {
		return fmt.Errorf("%w: it is that of a node: %w", ErrForeign, ErrNode)
	}
	if err := CheckGateway(cert.Subject.CommonName); err != nil {
		return fmt.Errorf("%w: its name is not a gateway id: %w", ErrForeign, err)
	}
	return Validity(cert, now)
}

// Validity checks only the time: nil, ErrExpired, ErrTooOld or ErrNotYet.
func Validity(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter.Add(RenewalGrace)):
		return ErrTooOld
	case now.After(cert.NotAfter):
		return ErrExpired
	case now.Before(cert.NotBefore):
		return ErrNotYet
	}
	return nil
}

// chain checks that ca signed cert for this use. The time is left to Validity,
// which knows about renewal.
func chain(cert, ca *x509.Certificate, use x509.ExtKeyUsage) error {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: x509.NewCertPool(),
		CurrentTime:   cert.NotBefore.Add(time.Second),
		KeyUsages:     []x509.ExtKeyUsage{use},
	})
	if err != nil {
		return fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if cert.IsCA {
		return fmt.Errorf("%w: it is that of a CA", ErrForeign)
	}
	return nil
}

// checkServer checks a node's certificate against the CA.
func checkServer(cert, ca *x509.Certificate, now time.Time) error {
	if err := chain(cert, ca, x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	if err := cert.VerifyHostname(ServerName); err != nil {
		return fmt.Errorf("%w: %v", ErrForeign, err)
	}
	if now.After(cert.NotAfter) {
		return fmt.Errorf("this gateway's clock says %s, the node's certificate ends %s: %w", now.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly), ErrExpired)
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("this gateway's clock says %s, the node's certificate begins %s: %w", now.Format(time.DateOnly), cert.NotBefore.Format(time.DateOnly), ErrNotYet)
	}
	return nil
}
