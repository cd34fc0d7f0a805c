package cloud

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/kafka"
)

// KafkaListener is one address for Kafka clients, and what it asks of them.
type KafkaListener struct {
	Name      string // that nodes of the cluster give to the same kind of listener; unique
	Listen    string // TCP address
	Advertise string // host, or host:port, under which its clients reach it; default: Options.Advertise
	TLSCert   string // file; with TLSKey, the listener speaks TLS. Both are read again when they change
	TLSKey    string
	ClientCA  string        // file: clients must have a certificate that one of these has signed
	SASL      []string      // mechanisms by which clients must log in
	Reauth    time.Duration // after which they must log in again; 0: never
}

// Authenticated reports whether the listener asks everybody who he is.
func (l KafkaListener) Authenticated() bool { return l.ClientCA != "" || len(l.SASL) > 0 }

// Check tells what is wrong with the settings of a listener.
func (l KafkaListener) Check() error {
	switch {
	case l.Listen == "":
		return errors.New("a listener needs an address: listen=HOST:PORT")
	case (l.TLSCert == "") != (l.TLSKey == ""):
		return fmt.Errorf("listener %s: tls-cert and tls-key come together", l.Name)
	case l.ClientCA != "" && l.TLSCert == "":
		return fmt.Errorf("listener %s: client-ca needs tls-cert and tls-key", l.Name)
	case l.Reauth < 0:
		return fmt.Errorf("listener %s: reauth %v is negative", l.Name, l.Reauth)
	}
	return nil
}

// openKafka opens the listeners; their addresses are known after it.
func (n *Node) openKafka() ([]kafka.Listener, error) {
	var open []kafka.Listener
	addresses := make(map[string]string)
	for _, k := range n.o.Kafka {
		if err := k.Check(); err != nil {
			return nil, err
		}
		if _, twice := addresses[k.Name]; twice {
			return nil, fmt.Errorf("two listeners of --kafka are called %q", k.Name)
		}
		l := kafka.Listener{Name: k.Name, SASL: k.SASL, Reauth: k.Reauth}
		if k.TLSCert != "" {
			files, err := newCertificates(k, n.o.Log)
			if err != nil {
				return nil, fmt.Errorf("listener %s: %w", k.Name, err)
			}
			l.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: files.current}
		}
		listener, err := net.Listen("tcp", k.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen on --kafka: %w", err)
		}
		n.closers = append(n.closers, ignoreClosed(listener.Close))
		talk := talkKafka
		switch {
		case k.ClientCA != "":
			talk = greetTLS
		case k.TLSCert != "":
			talk = inTLS(talk)
		}
		n.askSelf("kafka listener "+k.Name, listener.Addr(), talk)
		l.Listener = listener
		open = append(open, l)
		addresses[k.Name] = n.advertisedBy(k, listener.Addr())
		n.self.Kafka = cmp.Or(n.self.Kafka, addresses[k.Name])
	}
	n.self.Listeners = addresses
	return open, nil
}

// advertisedBy is the address under which clients of a listener reach it.
func (n *Node) advertisedBy(k KafkaListener, addr net.Addr) string {
	if k.Advertise == "" {
		return n.advertised(addr)
	}
	if _, _, err := net.SplitHostPort(k.Advertise); err == nil {
		return k.Advertise
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return k.Advertise
	}
	return net.JoinHostPort(strings.Trim(k.Advertise, "[]"), port)
}

// certificates are the files of a TLS listener. They are looked at with every
// handshake: who renews them has nobody to tell.
type certificates struct {
	k   KafkaListener
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	stamp  string     // sizes and times of the files that were tried last
	loaded *tls.Config
}

func newCertificates(k KafkaListener, log *slog.Logger) (*certificates, error) {
	c := &certificates{k: k, log: log}
	var err error
	if c.stamp, err = c.look(); err != nil {
		return nil, err
	}
	c.loaded, err = c.load()
	return c, err
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
