package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/edge/websocket"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/sender"
)

// Off is the address of a disabled listener.
const Off = "off"

// Sizes such that the cloud takes whatever a gateway accepts: a topic there takes
// record batches of 1 MiB.
const (
	MaxPacket = 950_000 // bytes of an MQTT packet
	maxBatch  = 900_000 // bytes of records in one batch, unless one record is larger
)

// Options configure a gateway. Data and Gateway are required.
type Options struct {
	Data    string
	Gateway string   // id; replaced by that of the identity once the gateway has joined
	Cloud   []string // sync addresses of nodes; none: records stay on the gateway
	Join    string   // token, needed once
	// JoinFile is a file with the token. It takes precedence over Join unless it has
	// no token. It is read before each attempt to join.
	JoinFile string

	MQTT         string   // TCP listener, or Off
	MQTTS        string   // TLS listener, or Off
	WebSocket    string   // of MQTT, or Off
	WebSocketTLS string   // likewise, with the certificate of MQTTS, or Off
	Origins      []string // of web pages that may use the WebSocket listeners, besides pages of the same host
	Certificate  string   // PEM files of the TLS listener
	Key          string
	ClientCA     string // clients must show a certificate of this CA
	Users        string // file of users and their password hashes; "": every client may connect
	ACL          string // file of topics that users may publish and read; "": all
	HTTP         string // TCP listener, or Off
	Admin        HTTP
	Routes       string // file; "": the first level of the MQTT topic is the Kafka topic
	MaxTopics    int    // number of Kafka topics that messages may name; 0: DefaultMaxTopics
	SourceHeader bool
	Quota        int64 // bytes of the local log and of what is remembered of devices; 0: 1 GiB
	Reserve      int64
	Devices      Devices
	Software     string
	Ready        func() // called when the gateway serves; may be nil
	Log          *slog.Logger
}

// Edge is a running gateway.
type Edge struct {
	o         Options
	metrics   *metrics.Set
	started   time.Time
	log       *wal.Log
	refusals  *refusals
	mqtt      *mqtt.Server
	backend   *backend
	users     *mqtt.Users              // nil: every client may connect
	acl       atomic.Pointer[mqtt.ACL] // nil: everything is allowed
	listeners map[string]net.Listener
	http      *http.Server
	sender    atomic.Pointer[sender.Sender]
	joining   atomic.Pointer[syncStatus] // before there is a sender
	pulse     pulse
	closers   []func() error // in the order of opening

	reloading    sync.Mutex               // one Reload at a time
	certificates []*listener.Certificates // of the listeners; they stay as Open made them
}

// Open repairs and opens the local log, and opens the listeners. Call Run to serve.
func Open(o Options) (_ *Edge, err error) {
	o.Quota = cmp.Or(o.Quota, 1<<30)
	e := &Edge{o: o, started: time.Now(), metrics: metrics.NewSet(), listeners: make(map[string]net.Listener)}
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
	owed, err := mqtt.OpenOwed(owedDir(o.Data), o.owed(), o.Log)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	if err := e.openMQTT(store, owed); err != nil {
		return nil, errors.Join(err, store.Close(), owed.Close())
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

func (e *Edge) openMQTT(store mqtt.Store, owed *mqtt.OwedLog) error {
	e.refusals = newRefusals(e.log.Space, e.o.Log, e.metrics)
	e.closers = append(e.closers, e.refusals.close)
	if err := e.openBackend(e.refusals); err != nil {
		return err
	}
	o := e.o.limits()
	o.Backend, o.Store, o.Owed = e.backend, store, owed
	o.Log, o.Metrics = e.o.Log, e.metrics
	var err error
	if o.Listeners, err = e.devices(); err != nil {
		return err
	}
	if err := e.openAccess(&o); err != nil {
		return err
	}
	server, err := mqtt.New(o)
	if err != nil {
		return err
	}
	e.mqtt = server
	e.closers = append(e.closers, server.Close)
	return nil
}

// devices returns the listeners for devices.
func (e *Edge) devices() (all []net.Listener, err error) {
	var conf *tls.Config
	if e.listeners["mqtts"] != nil || e.listeners["mqtt-wss"] != nil {
		c, err := listener.Settings{Name: "mqtts", TLSCert: e.o.Certificate, TLSKey: e.o.Key, ClientCA: e.o.ClientCA}.Certificates(e.o.Log)
		if err != nil {
			return nil, fmt.Errorf("--mqtts and --mqtt-wss: %w", err)
		}
		e.certificates = append(e.certificates, c)
		conf = c.TLS()
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

// ErrSettings: users, ACL or routes are wrong, or their file is missing. Retrying does
// not help.
var ErrSettings = errors.New("settings are wrong")

// wrong is an error that matches ErrSettings.
type wrong struct{ error }

func (w wrong) Is(target error) bool { return target == ErrSettings }
func (w wrong) Unwrap() error        { return w.error }

// openBackend reads the routes.
func (e *Edge) openBackend(r *refusals) error {
	routes, err := e.loadRoutes()
	if err != nil {
		return wrong{err}
	}
	names := openNames(namesFile(e.o.Data), cmp.Or(e.o.MaxTopics, DefaultMaxTopics), e.o.Log)
	e.closers = append(e.closers, names.close)
	e.backend = &backend{log: e.log, gateway: e.o.Gateway, names: names, refusals: r, storing: &e.pulse.storing, count: newRouting(e.metrics)}
	e.backend.routes.Store(&routes)
	return nil
}

// openAccess reads which clients may connect, and what they may do.
func (e *Edge) openAccess(o *mqtt.Options) error {
	if e.o.Users != "" {
		users, err := mqtt.LoadUsers(e.o.Users)
		if err != nil {
			return wrong{err}
		}
		e.users, o.Authenticate = users, users.Authenticate
	}
	if e.o.ACL == "" {
		return nil
	}
	acl, err := mqtt.LoadACL(e.o.ACL)
	if err != nil {
		return wrong{err}
	}
	e.acl.Store(acl)
	if e.users == nil {
		e.o.Log.Warn("--mqtt-acl is not safe without --mqtt-users: clients can use any user name")
	}
	o.May = mqtt.Permissions{
		Publish:   func(id, user, topic string) bool { return e.acl.Load().MayPublish(id, user, topic) },
		Subscribe: func(id, user, filter string) bool { return e.acl.Load().MaySubscribe(id, user, filter) },
		Read:      func(id, user, topic string) bool { return e.acl.Load().MayRead(id, user, topic) },
	}
	return nil
}

// Run serves until ctx ends, which is not an error, or until an error occurs that
// retrying does not fix.
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
	var syncing sync.WaitGroup // reads the log, so it must end before the log is closed
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

// Close releases what Open opened; Run calls it. It may be called again.
func (e *Edge) Close() error {
	var errs []error
	for len(e.closers) > 0 {
		last := len(e.closers) - 1
		errs = append(errs, e.closers[last]())
		e.closers = e.closers[:last]
	}
	return errors.Join(errs...)
}

// sync joins the cloud if the gateway has not joined yet, and delivers the local log
// until ctx ends. It returns errors of the settings only, never those of the link or
// the cloud.
func (e *Edge) sync(ctx context.Context) error {
	if len(e.o.Cloud) == 0 {
		e.joining.Store(&syncStatus{State: SyncOff})
		e.o.Log.Warn("--cloud is not set: all messages stay in the local log")
		<-ctx.Done()
		return nil
	}
	j := newJoiner(e)
	identity := j.first(ctx)
	if identity == nil {
		return nil
	}
	s, err := sender.New(sender.Options{
		Buffers: uplink{e.log, []byte(e.o.Gateway), e.o.SourceHeader, e.backend.names}, Addrs: e.o.Cloud, Identity: identity, Batch: maxBatch,
		Rejoin: func(ctx context.Context, _ error) *join.Identity {
			if id := j.again(ctx, identity); id != nil {
				identity = id
				return id
			}
			return nil
		},
		Software: e.o.Software, Depth: e.depth, Status: e.figures, Metrics: e.metrics, Logger: e.o.Log,
	})
	if err != nil {
		return err
	}
	e.sender.Store(s)
	s.Run(ctx)
	return nil
}
