package join

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ALPN names of the two protocols.
const (
	alpnMain = "weir/1"
	alpnJoin = "weir-join/1"
)

// ServerTLS is the configuration of a node. On weir/1 a client certificate of the CA is
// required. An expired one is accepted as long as it may renew; CheckClient reports
// that again once the session is up. On weir-join/1 the gateway has no certificate yet.
// revoked is called for every session, resumed ones included; nil means that no gateway
// is revoked.
func ServerTLS(ca *x509.Certificate, node tls.Certificate, now func() time.Time, revoked func(*x509.Certificate) error) *tls.Config {
	return serverTLS(ca, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &node, nil }, now, revoked)
}

func serverTLS(ca *x509.Certificate, node func(*tls.ClientHelloInfo) (*tls.Certificate, error), now func() time.Time, revoked func(*x509.Certificate) error) *tls.Config {
	if now == nil {
		now = time.Now
	}
	main := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{alpnMain},
		GetCertificate: node,
		ClientAuth:     tls.RequireAnyClientCert, // VerifyConnection verifies, also when resuming
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrForeign
			}
			cert := s.PeerCertificates[0]
			if err := CheckClient(cert, ca, now()); err != nil && !errors.Is(err, ErrExpired) {
				return err
			}
			if revoked != nil {
				return revoked(cert)
			}
			return nil
		},
	}
	joining := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpnJoin},
		GetCertificate:         node,
		ClientAuth:             tls.NoClientCert,
		SessionTicketsDisabled: true,
	}
	outer := main.Clone()
	outer.NextProtos = []string{alpnMain, alpnJoin}
	outer.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(h.SupportedProtos, alpnJoin) && !slices.Contains(h.SupportedProtos, alpnMain) {
			return joining, nil
		}
		return main, nil
	}
	return outer
}

// JoinTLS is the configuration of a gateway that joins: it trusts the CA whose
// fingerprint the token carries. Any other CA is ErrForeign, before the secret is sent.
// As with TLS, a clock that starts in 1970 does no harm: the time is never before the
// CA was made.
func JoinTLS(t Token, now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpnJoin},
		ServerName: ServerName,
		// The CA is not known yet, only its fingerprint: VerifyConnection does
		// all of the verification.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, ca := range s.PeerCertificates[1:] {
				if Fingerprint(ca) == t.Fingerprint {
					return checkServer(s.PeerCertificates[0], ca, after(now(), ca))
				}
			}
			return fmt.Errorf("the cloud at this address is not the one that the token is for: %w", ErrForeign)
		},
	}
}

// TLS is the configuration of a gateway that has joined. Each session uses the
// certificate that is current when it is dialled. The time used is never before the
// certificate was made, so a gateway whose clock starts in 1970 can dial before it has
// asked for the time.
func (id *Identity) TLS(now func() time.Time) *tls.Config {
	if now == nil {
		now = time.Now
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpnMain},
		ServerName: ServerName,
		// The system's roots and rules are not used, only the one CA, the constant
		// name, and the time above. VerifyConnection does all of the verification.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return checkServer(s.PeerCertificates[0], id.CA(), after(now(), id.Leaf()))
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return id.certificate(), nil
		},
	}
}

// after returns the later of t and the time at which a trusted certificate was made: a
// clock that is before that time is wrong.
func after(t time.Time, trusted *x509.Certificate) time.Time {
	if t.Before(trusted.NotBefore) {
		return trusted.NotBefore
	}
	return t
}
