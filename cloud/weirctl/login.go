package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// loginFlags are the login for a Kafka listener with authentication.
type loginFlags struct {
	user, passwordFile string
	ca, certificate    string
}

// options are those of a Kafka client.
func (f loginFlags) options() ([]kgo.Opt, error) {
	var opts []kgo.Opt
	if (f.user == "") != (f.passwordFile == "") {
		return nil, errors.New("--kafka-user and --kafka-password-file must be set together")
	}
	if f.user != "" {
		body, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("read --kafka-password-file: %w", err)
		}
		line, _, _ := strings.Cut(string(body), "\n")
		opts = append(opts, kgo.SASL(scram.Auth{User: f.user, Pass: strings.TrimRight(line, "\r")}.AsSha512Mechanism()))
	}
	if f.ca == "" {
		if f.certificate != "" {
			return nil, errors.New("--kafka-cert needs --kafka-ca")
		}
		return opts, nil
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "system" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("read --kafka-ca: %w", err)
		}
		if secure.RootCAs = x509.NewCertPool(); !secure.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--kafka-ca %s holds no certificate", f.ca)
		}
	}
	if f.certificate != "" {
		pair, err := tls.LoadX509KeyPair(f.certificate, f.certificate)
		if err != nil {
			return nil, fmt.Errorf("load --kafka-cert: %w", err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return append(opts, kgo.DialTLSConfig(secure)), nil
}
