package admin

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// TLS returns the configuration of a listener whose certificate and key lie in two
// PEM files. They are looked at with every handshake: who renews them has nobody to
// tell. New ones that cannot be used change nothing, for they may be half written.
func TLS(certificate, key string, log *slog.Logger) (*tls.Config, error) {
	c := &certificates{cert: certificate, key: key, log: log}
	var err error
	if c.stamp, err = c.look(); err != nil {
		return nil, fmt.Errorf("load the certificate of --http: %w", err)
	}
	if c.loaded, err = c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.current, NextProtos: []string{"http/1.1"}}, nil
}

type certificates struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex // guards what follows
	stamp  string     // sizes and times of the files that were tried last
	loaded *tls.Certificate
}

// look tells one state of the files from another.
func (c *certificates) look() (string, error) {
	stamp := ""
	for _, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		stamp += fmt.Sprintln(info.Size(), info.ModTime().UnixNano())
	}
	return stamp, nil
}

func (c *certificates) load() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("load the certificate of --http: %w", err)
	}
	return &pair, nil
}

func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.look()
	if err == nil && stamp == c.stamp {
		return c.loaded, nil
	}
	if err == nil {
		c.stamp = stamp
		var next *tls.Certificate
		if next, err = c.load(); err == nil {
			c.loaded = next
			c.log.Info("certificate of --http loaded anew", "file", c.cert)
			return next, nil
		}
	}
	c.log.Warn("new certificate of --http cannot be used; serving with the one from before", "file", c.cert, "err", err)
	return c.loaded, nil
}
