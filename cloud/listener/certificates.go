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

// Certificates are the files of a TLS listener. They are checked for changes at every
// handshake, so that a renewal needs no signal or restart.
type Certificates struct {
	k   Settings
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	stamp  string     // sizes and times of the files that were tried last
	loaded *tls.Config
	wrong  string // why the files could not be used at the last attempt, "" if they could
}

// Certificates reads the files of a listener. TLSCert and TLSKey must be set.
func (s Settings) Certificates(log *slog.Logger) (*Certificates, error) {
	c := &Certificates{k: s, log: log}
	var err error
	if c.stamp, err = c.look(); err != nil {
		return nil, err
	}
	if c.loaded, err = c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// TLS returns a configuration that uses the current files at each handshake, or the
// last usable ones.
func (c *Certificates) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: c.current}
}

// look returns a stamp that changes when the files change.
func (c *Certificates) look() (string, error) {
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

func (c *Certificates) load() (*tls.Config, error) {
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

// current returns the configuration for the next client. Files that cannot be read,
// or that do not match each other, are ignored: they may be half written.
func (c *Certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.renew(); err != nil && err.Error() != c.wrong {
		c.wrong = err.Error()
		c.log.Warn("new certificates cannot be used: the former ones stay in use", "listener", c.k.Name, "err", err)
	}
	return c.loaded, nil
}

// renew loads the files if they have changed since the last attempt. The caller holds
// mu.
func (c *Certificates) renew() error {
	stamp, err := c.look()
	if err != nil || stamp == c.stamp {
		return err
	}
	c.stamp = stamp
	next, err := c.load()
	if err != nil {
		return err
	}
	c.loaded, c.wrong = next, ""
	c.log.Info("certificates loaded again", "listener", c.k.Name, "file", c.k.TLSCert)
	return nil
}

// Reload reads the files now, without waiting for a client, and logs the result: one
// line if they have changed, an error if they cannot be used. Open connections stay
// open.
func (c *Certificates) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrong != "" {
		c.stamp = "" // load the files even if they have not changed
	}
	if err := c.renew(); err != nil {
		c.wrong = err.Error()
		c.log.Error("certificates cannot be used: the former ones stay in use", "listener", c.k.Name, "err", err)
	}
}
