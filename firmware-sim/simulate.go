package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/firmware-sim/device"
)

type settings struct {
	brokers   []string
	ca        string
	user      string
	password  string
	devices   int
	prefix    string
	interval  time.Duration
	count     int
	duration  time.Duration
	qos       []int
	versions  []string
	topic     string
	inFlight  int
	seed      uint64
	sent      string
	quiet     bool
	arguments []string
}

func parseSettings(args, environ []string, out io.Writer) (settings, error) {
	var s settings
	fs := pflag.NewFlagSet("firmware-sim", pflag.ContinueOnError)
	fs.StringSliceVar(&s.brokers, "broker", []string{"mqtt://127.0.0.1:1883"}, "`URL` of the gateway, mqtt://HOST:1883 or mqtts://HOST:8883. With several, devices take turns")
	fs.StringVar(&s.ca, "ca", "", "PEM `file` with the CA of an mqtts:// broker (default: those of the system)")
	fs.StringVar(&s.user, "user", "", "MQTT user `name`")
	fs.StringVar(&s.password, "password", "", "MQTT `password`")
	fs.IntVar(&s.devices, "devices", 50, "`number` of devices")
	fs.StringVar(&s.prefix, "prefix", "dev", "`prefix` of the devices' ids: dev makes dev-0001, dev-0002 and so on")
	configs.DurationVar(fs, &s.interval, "interval", time.Second, "`time` between two readings of a device; 0: as fast as they are acknowledged (needs --count)")
	fs.IntVar(&s.count, "count", 0, "`number` of readings of each device; 0: until it is interrupted")
	configs.DurationVar(fs, &s.duration, "duration", 0, "`time` after which to stop; 0: never")
	fs.IntSliceVar(&s.qos, "qos", []int{1}, "`QoS` 0, 1 or 2. With several, devices take turns")
	fs.StringSliceVar(&s.versions, "mqtt-version", []string{"3.1.1"}, "MQTT `version` 3.1, 3.1.1 or 5. With several, devices take turns")
	fs.StringVar(&s.topic, "topic", "sensors/{device}/telemetry", "MQTT `topic`; {device} stands for the device's id")
	fs.IntVar(&s.inFlight, "in-flight", 16, "`number` of readings that a device may send before the first is acknowledged")
	fs.Uint64Var(&s.seed, "seed", 1, "`number` that the values of the sensors depend on; the same seed gives the same values")
	fs.StringVar(&s.sent, "sent", "", "`file` to write the outcome of each reading to, for firmware-sim verify")
	fs.BoolVar(&s.quiet, "quiet", false, "print no progress")
	p := configs.Program{
		Name: "firmware-sim",
		Summary: "firmware-sim simulates a fleet of sensors. Every device numbers its readings, sends them over MQTT,\n" +
			"and sends again what was not acknowledged when a connection broke.",
		Usage: "firmware-sim [flags]\n  firmware-sim verify --sent FILE [flags]    compare what was sent with what came out of Kafka",
		Notes: "Examples:\n  firmware-sim --devices 50 --count 60 --sent sent.tsv\n  firmware-sim verify --sent sent.tsv",
	}
	if err := configs.Load(p, fs, args, environ, out); err != nil {
		return s, err
	}
	s.arguments = fs.Args()
	return s, s.check()
}

func (s settings) check() error {
	switch {
	case len(s.arguments) > 0:
		return fmt.Errorf("unknown command %q: there is only verify", s.arguments[0])
	case s.devices < 1 || s.devices > 100_000:
		return fmt.Errorf("--devices %d is not between 1 and 100000", s.devices)
	case s.interval < 0:
		return fmt.Errorf("--interval %v is negative", s.interval)
	case s.count < 0:
		return fmt.Errorf("--count %d is negative", s.count)
	case s.interval == 0 && s.count == 0:
		return errors.New("--interval 0 sends as fast as it can: set --count to the number of readings")
	case s.inFlight < 1 || s.inFlight > 10_000:
		return fmt.Errorf("--in-flight %d is not between 1 and 10000", s.inFlight)
	case len(s.qos) == 0 || len(s.versions) == 0 || len(s.brokers) == 0:
		return errors.New("--qos, --mqtt-version and --broker need at least one value")
	}
	return nil
}

// fleet turns the settings into a fleet.
func (s settings) fleet() (device.Fleet, error) {
	f := device.Fleet{Devices: s.devices, Prefix: s.prefix, Seed: s.seed, Topic: s.topic}
	f.Interval, f.Count, f.InFlight = s.interval, s.count, s.inFlight
	f.User, f.Password = s.user, s.password
	for _, q := range s.qos {
		if q < 0 || q > 2 {
			return f, fmt.Errorf("--qos %d is not 0, 1 or 2", q)
		}
		f.QoS = append(f.QoS, byte(q))
	}
	for _, v := range s.versions {
		version, ok := map[string]byte{"3.1": 3, "3.1.1": 4, "5": 5, "5.0": 5}[v]
		if !ok {
			return f, fmt.Errorf("--mqtt-version %q is not 3.1, 3.1.1 or 5", v)
		}
		f.Versions = append(f.Versions, version)
	}
	for _, b := range s.brokers {
		address, secure, err := parseBroker(b)
		if err != nil {
			return f, err
		}
		if secure && f.TLS == nil {
			if f.TLS, err = s.tls(); err != nil {
				return f, err
			}
		} else if !secure && f.TLS != nil {
			return f, errors.New("--broker has both mqtt:// and mqtts:// URLs: use one kind")
		}
		f.Brokers = append(f.Brokers, address)
	}
	return f, nil
}

func parseBroker(s string) (address string, secure bool, err error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "mqtt" && u.Scheme != "mqtts" {
		return "", false, fmt.Errorf("--broker %q is not of the form mqtt://host:port", s)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port), u.Scheme == "mqtts", nil
}

func (s settings) tls() (*tls.Config, error) {
	if s.ca == "" {
		return &tls.Config{}, nil
	}
	pem, err := os.ReadFile(s.ca)
	if err != nil {
		return nil, fmt.Errorf("read --ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca %s holds no PEM certificate", s.ca)
	}
	return &tls.Config{RootCAs: pool}, nil
}

// simulate runs the fleet.
func simulate(ctx context.Context, args, environ []string, stdout, stderr io.Writer) (err error) {
	s, err := parseSettings(args, environ, stdout)
	if err != nil {
		return err
	}
	fleet, err := s.fleet()
	if err != nil {
		return err
	}
	if s.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.duration)
		defer cancel()
	}
	if s.sent != "" {
		file, err := os.Create(s.sent)
		if err != nil {
			return fmt.Errorf("create --sent: %w", err)
		}
		ledger := device.NewLedger(file)
		fleet.Event = ledger.Event
		defer func() { err = errors.Join(err, ledger.Flush(), file.Close()) }()
	}
	var stats device.Stats
	faults := newFaults(stderr, s.quiet)
	fleet.Fault = faults.report
	began := time.Now()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		fleet.Run(ctx, &stats)
	}()
	progress(stderr, s.quiet, &stats, finished)
	took := time.Since(began)
	fmt.Fprintf(stdout, "sent %d readings of %d devices in %v: %d acknowledged, %d sent again, %d refused, %d unanswered\n",
		stats.Sent.Load(), s.devices, took.Round(time.Millisecond), stats.Acked.Load(), stats.Resent.Load(), stats.Refused.Load(), stats.Unfinished.Load())
	return nil
}

// progress prints a line a second until finished.
func progress(w io.Writer, quiet bool, stats *device.Stats, finished <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := int64(0)
	for {
		select {
		case <-finished:
			return
		case <-tick.C:
			acked := stats.Acked.Load()
			if !quiet {
				fmt.Fprintf(w, "sent %d  acked %d (%d/s)  resent %d  refused %d  broken connections %d\n",
					stats.Sent.Load(), acked, acked-last, stats.Resent.Load(), stats.Refused.Load(), stats.Faults.Load())
			}
			last = acked
		}
	}
}
