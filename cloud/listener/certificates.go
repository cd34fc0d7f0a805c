package listener

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// certificates are the files of a TLS listener. They are looked at with every
// handshake: who renews them has nobody to tell.
type certificates struct {
	k   Settings
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	stamp  string     // sizes and times of the files that were tried last
	loaded *tls.Config
}

// TLS reads the files of a listener, TLSCert and TLSKey at least, and returns what it
// serves with: what lies in the files at each handshake, or what was there last that
// could be used.
func (s Settings) TLS(log *slog.Logger) (*tls.Config, error) {
	c := &certificates{k: s, log: log}
	var err error
	if c.stamp, err = c.look(); err != nil {
		return nil, err
	}
	if c.loaded, err = c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: c.current}, nil
}

// look tells one state of the files from another.
func (c *certificates) look() (string, error) {
	var all strings.Builder
	for _, path := range []string{c.k.TLSCert, c.k.TLSKey, c.k.ClientCA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(&all, info.Size(), info.ModTime().UnixNano())
	}
	return all.String(), nil
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.k.TLSCert, c.k.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("load tls-cert and tls-key: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	if c.k.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.k.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("load client-ca: %w", err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load client-ca: %s holds no certificate", c.k.ClientCA)
	}
	return config, nil
}

// current is what the next client is served with. Files that cannot be read, or do
// not fit together, change nothing: they may be half written.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.look()
	if err == nil && stamp == c.stamp {
		return c.loaded, nil
	}
	if err == nil {
		c.stamp = stamp
		var next *tls.Config
		if next, err = c.load(); err == nil {
			c.loaded = next
			c.log.Info("certificates loaded anew", "listener", c.k.Name, "file", c.k.TLSCert)
			return next, nil
		}
	}
	c.log.Warn("new certificates cannot be used; serving with those from before", "listener", c.k.Name, "err", err)
	return c.loaded, nil
}
