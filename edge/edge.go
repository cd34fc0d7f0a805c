package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/edge/websocket"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
)

// Off is the address of a listener that is not wanted.
const Off = "off"

// Sizes that keep what a gateway accepts within what the cloud takes: a topic
// there takes record batches of 1 MiB.
const (
	MaxPacket = 950_000 // bytes of an MQTT packet
	maxBatch  = 900_000 // bytes of records in one batch, unless one record is larger
)

// Options configure a gateway. Data and Gateway are required.
type Options struct {
	Data    string
	Gateway string   // id; that of the identity, once the gateway has joined
	Cloud   []string // sync addresses of nodes; none: store only
	Join    string   // token, needed once
	// JoinFile is a file with the token: while it has one, Join does not count. It
	// is read when the gateway has to join, again and again until it has.
	JoinFile string

	MQTT         string   // TCP listener, or Off
	MQTTS        string   // TLS listener, or Off
	WebSocket    string   // of MQTT, or Off
	WebSocketTLS string   // likewise, with the certificate of MQTTS, or Off
	Origins      []string // of web pages that may use them, besides those of the same host
	Certificate  string   // PEM files of the TLS listener
	Key          string
	ClientCA     string // clients must show a certificate of this CA
	Users        string // file of users and bcrypt hashes; "" lets everybody in
	HTTP         string // TCP listener, or Off
	Admin        HTTP
	Routes       Routes
	SourceHeader bool
	Quota        int64 // bytes of the local log and of what is remembered of devices; 0: 1 GiB
	Reserve      int64
	Devices      Devices
	Software     string
	Ready        func() // is called when the gateway serves; nil: nobody asks
	Log          *slog.Logger
}

// Edge is a running gateway.
type Edge struct {
	o         Options
	metrics   *metrics.Set
	log       *wal.Log
	mqtt      *mqtt.Server
	listeners map[string]net.Listener
	http      *http.Server
	sender    atomic.Pointer[sender.Sender]
	joining   atomic.Pointer[syncStatus] // before there is a sender
	pulse     pulse
	closers   []func() error // in the order of opening
}

// Open repairs and opens the local log, and opens the listeners; Run does the
// rest.
func Open(o Options) (_ *Edge, err error) {
	o.Quota = cmp.Or(o.Quota, 1<<30)
	e := &Edge{o: o, metrics: metrics.NewSet(), listeners: make(map[string]net.Listener)}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err := o.checkGateway(); err != nil {
		return nil, err
	}
	if e.log, err = wal.Open(wal.Options{Dir: filepath.Join(o.Data, "log"), Quota: o.logQuota(), LetterQuota: o.letterQuota(), ClientLetters: min(1<<20, o.letterQuota()/2), Reserve: o.Reserve, Used: o.used(), Log: o.Log}); err != nil {
		return nil, fmt.Errorf("open the local log: %w", err)
	}
	e.closers = append(e.closers, e.log.Close)
	store, err := openStore(o.Data, o.Log)
	if err != nil {
		return nil, fmt.Errorf("open the session state: %w", err)
	}
	if err := e.listen(); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := e.openMQTT(store); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if l := e.listeners["http"]; l != nil {
		if err := e.openHTTP(l); err != nil {
			return nil, err
		}
	}
	e.measure()
	return e, nil
}

func (e *Edge) listen() error {
	for name, addr := range map[string]string{"mqtt": e.o.MQTT, "mqtts": e.o.MQTTS, "mqtt-ws": e.o.WebSocket, "mqtt-wss": e.o.WebSocketTLS, "http": e.o.HTTP} {
		if addr == Off || addr == "" {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen on --%s: %w", name, err)
		}
		e.listeners[name] = l
		e.closers = append(e.closers, func() error {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return nil
}

func (e *Edge) openMQTT(store mqtt.Store) error {
	r := newRefusals(e.log.Space, e.o.Log, e.metrics)
	e.closers = append(e.closers, r.close)
	o := e.o.limits()
	o.Backend, o.Store = &backend{log: e.log, routes: e.o.Routes, refusals: r, storing: &e.pulse.storing}, store
	o.Log, o.Metrics = e.o.Log, e.metrics
	var err error
	if o.Listeners, err = e.devices(); err != nil {
		return err
	}
	if e.o.Users != "" {
		users, err := mqtt.LoadUsers(e.o.Users)
		if err != nil {
			return err
		}
		o.Authenticate = users.Authenticate
	}
	server, err := mqtt.New(o)
	if err != nil {
		return err
	}
	e.mqtt = server
	e.closers = append(e.closers, server.Close)
	return nil
}

// devices are the listeners for devices.
func (e *Edge) devices() (all []net.Listener, err error) {
	var conf *tls.Config
	if e.listeners["mqtts"] != nil || e.listeners["mqtt-wss"] != nil {
		if conf, err = e.tls(); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"mqtt", "mqtts", "mqtt-ws", "mqtt-wss"} {
		l := e.listeners[name]
		if l == nil {
			continue
		}
		if name == "mqtts" || name == "mqtt-wss" {
			l = tls.NewListener(l, conf)
		}
		if name == "mqtt-ws" || name == "mqtt-wss" {
			l = websocket.NewListener(l, e.o.Origins)
		}
		all = append(all, l)
	}
	return all, nil
}

// tls is the configuration of the listeners with TLS.
func (e *Edge) tls() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(e.o.Certificate, e.o.Key)
	if err != nil {
		return nil, fmt.Errorf("load the certificate of --mqtts: %w", err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if e.o.ClientCA == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(e.o.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read --mqtts-client-ca: %w", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--mqtts-client-ca %s holds no PEM certificate", e.o.ClientCA)
	}
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	return conf, nil
}

// Run serves until ctx ends, which is no error, or until something fails that
// trying again does not mend.
func (e *Edge) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	serve := func(name string, run func() error, stopped error) {
		wg.Go(func() {
			if err := run(); !errors.Is(err, stopped) && ctx.Err() == nil {
				cancel(fmt.Errorf("serve %s: %w", name, err))
			}
		})
	}
	serve("mqtt", e.mqtt.Serve, mqtt.ErrClosed)
	if e.http != nil {
		serve("http", func() error { return e.http.Serve(e.listeners["http"]) }, http.ErrServerClosed)
	}
	var syncing sync.WaitGroup // reads the log, which is closed after it
	syncing.Go(func() {
		if err := e.sync(ctx); err != nil {
			cancel(fmt.Errorf("sync: %w", err))
		}
	})
	attrs := []any{"gateway", e.o.Gateway, "cloud", e.o.Cloud}
	for _, name := range []string{"mqtt", "mqtts", "mqtt-ws", "mqtt-wss", "http"} {
		if l := e.listeners[name]; l != nil {
			attrs = append(attrs, name, l.Addr().String())
		}
	}
	e.o.Log.Info("ready", attrs...)
	if e.o.Ready != nil {
		e.o.Ready()
	}
	<-ctx.Done()
	syncing.Wait()
	err := e.Close()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// Close ends what Open began; Run calls it. It may be called again.
func (e *Edge) Close() error {
	var errs []error
	for len(e.closers) > 0 {
		last := len(e.closers) - 1
		errs = append(errs, e.closers[last]())
		e.closers = e.closers[:last]
	}
	return errors.Join(errs...)
}

// sync joins the cloud if that is still to be done, and drains the local log
// until ctx ends. An error is one of the settings; whatever the link or the
// cloud says is none.
func (e *Edge) sync(ctx context.Context) error {
	if len(e.o.Cloud) == 0 {
		e.joining.Store(&syncStatus{State: SyncOff})
		e.o.Log.Warn("no --cloud is set: everything stays in the local log")
		<-ctx.Done()
		return nil
	}
	j := newJoiner(e)
	identity := j.first(ctx)
	if identity == nil {
		return nil
	}
	s, err := sender.New(sender.Options{
		Buffers: uplink{e.log, e.o.SourceHeader}, Addrs: e.o.Cloud, Identity: identity, Batch: maxBatch,
		Rejoin: func(ctx context.Context, _ error) *join.Identity {
			if id := j.again(ctx, identity); id != nil {
				identity = id
				return id
			}
			return nil
		},
		Software: e.o.Software, Depth: e.depth, Metrics: e.metrics, Logger: e.o.Log,
	})
	if err != nil {
		return err
	}
	e.sender.Store(s)
	return s.Run(ctx)
}

// depth is what the cloud is told about the backlog.
func (e *Edge) depth() wire.Ping {
	s := e.log.Stats()
	p := wire.Ping{Records: s.Records, Bytes: uint64(s.Bytes)}
	if !s.OldestTime.IsZero() {
		p.Age = uint64(max(0, time.Since(s.OldestTime)) / time.Millisecond)
	}
	return p
}
