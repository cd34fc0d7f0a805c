// Command demo shows Weir at work on one machine: a cloud node with a file
// bucket, a gateway, and a fleet of simulated devices, with a live table of
// what is where. It cuts the link, kills the cloud, and counts what was lost. It is
// what `make demo` runs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/edge"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// errUnclean: the demo ran, and the auditor found something.
var errUnclean = errors.New("the auditor found lost, duplicated or disordered readings")

func run(args, environ []string, stdout, stderr *os.File) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := demonstrate(ctx, args, environ, stdout)
	if err != nil && !errors.Is(err, configs.ErrDone) {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return 0
}

// demo is one run.
type demo struct {
	cluster *harness.Cluster
	fleet   device.Fleet
	stats   device.Stats
	auditor *audit.Auditor
	token   string // of weir-cloud's admin port
	live    bool   // redraw the table in place
	out     io.Writer

	kafka, amqp, mqtt, http, edgeHTTP string // addresses, the same for all lives of a process

	scene  atomic.Pointer[string] // what is happening
	buffer int64                  // records in the gateway, when it was asked last
	peak   int64                  // the most of them
	logged int64                  // records in the cloud's log, when it was asked last
}

func demonstrate(ctx context.Context, args, environ []string, out *os.File) (err error) {
	fs := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	seconds := fs.Int("seconds", 0, "end after so many seconds; 0: at Ctrl-C")
	devices := fs.Int("devices", 50, "how many devices")
	var interval time.Duration
	configs.DurationVar(fs, &interval, "interval", 200*time.Millisecond, "`time` between two readings of a device")
	p := configs.Program{Name: "demo", Summary: "demo runs a cloud node, a gateway and a fleet of devices on this machine. It cuts the link\n" +
		"between gateway and cloud for ten seconds, kills the cloud once, and counts what was lost."}
	if err := configs.Load(p, fs, args, environ, out); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "weir-demo-")
	if err != nil {
		return err
	}
	d := &demo{cluster: &harness.Cluster{Dir: dir, Doors: []string{"amqp", "management"}}, auditor: audit.New(), out: out, live: term.IsTerminal(int(out.Fd()))}
	d.cluster.Prefer(map[string]string{"kafka": "127.0.0.1:9092", "http": "127.0.0.1:8080", "amqp": "127.0.0.1:5672", "management": "127.0.0.1:15672"},
		map[string]string{"mqtt": "127.0.0.1:1883", "http": "127.0.0.1:8081"})
	if err := d.cluster.Open(); err != nil {
		return errors.Join(err, d.cluster.Close())
	}
	d.kafka, d.amqp, d.mqtt, d.http, d.edgeHTTP = d.cluster.Kafka(), d.cluster.Cloud.Addr["amqp"], d.cluster.MQTT(), d.cluster.HTTP(), "http://"+d.cluster.Edge.Addr["http"]
	if d.token, err = admin.ReadToken(filepath.Join(d.cluster.CloudData(), admin.File)); err != nil {
		return errors.Join(err, d.cluster.Close())
	}
	d.fleet = d.cluster.Fleet(*devices, interval, 1)
	d.fleet.Prefix = fmt.Sprintf("demo%d", os.Getpid()) // other programs may send to these addresses too
	d.fleet.Event = d.auditor.Event
	report, err := d.play(ctx, *seconds)
	if err := errors.Join(err, d.cluster.Close()); err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	if err := json.NewEncoder(out).Encode(report); err != nil {
		return err
	}
	switch {
	case report.Acked == 0:
		return fmt.Errorf("nothing was acknowledged (logs are in %s)", dir)
	case !report.Clean():
		return fmt.Errorf("%w (logs and bucket are in %s)", errUnclean, dir)
	}
	return os.RemoveAll(dir)
}

// play runs the devices and a consumer until it is time, then waits until the
// consumer has everything that was acknowledged.
func (d *demo) play(ctx context.Context, seconds int) (audit.Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	consumed := make(chan error, 1)
	consume, stop := context.WithCancel(context.Background())
	defer stop()
	if err := d.consume(ctx, consume, consumed); err != nil {
		return audit.Report{}, err
	}
	if seconds > 0 {
		timer := time.AfterFunc(time.Duration(seconds)*time.Second, cancel)
		defer timer.Stop()
	}
	var devices sync.WaitGroup
	devices.Go(func() { d.fleet.Run(ctx, &d.stats) })
	d.introduce()
	d.say("all is well")
	began := time.Now()
	told := make(chan error, 1)
	go func() { told <- d.tell(ctx, plan(seconds)) }()
	err := d.watch(ctx, consumed, told, began)
	cancel()
	err = errors.Join(err, <-told)
	devices.Wait()
	if err != nil {
		return audit.Report{}, err
	}
	fmt.Fprintln(d.out, "\nstopping: waiting for what is still on its way")
	for patience := 80; patience > 0 && d.auditor.Missing() > 0; patience-- {
		pause(time.Second / 2)
	}
	pause(time.Second) // copies may still come
	stop()
	if err := <-consumed; err != nil {
		return audit.Report{}, err
	}
	d.say("the end")
	d.draw(time.Since(began))
	return d.auditor.Report(), nil
}

// consume starts the consumer, and returns when it waits for readings. The time that a
// client takes to find a new topic must not count for the readings.
func (d *demo) consume(ctx, consume context.Context, consumed chan error) error {
	reader := d.cluster.Reader("demo")
	if _, stderr, err := d.cluster.Weirctl("topics", "create", reader.Topic); err != nil {
		return fmt.Errorf("create topic %s: %w: %s", reader.Topic, err, stderr)
	}
	joined := make(chan struct{})
	reader.Joined = sync.OnceFunc(func() { close(joined) })
	go func() { consumed <- reader.Run(consume, d.auditor, nil) }()
	select {
	case <-joined:
		return nil
	case err := <-consumed:
		return fmt.Errorf("consume: %w", err)
	case <-ctx.Done():
		return errors.New("the consumer got nothing to read")
	}
}

func pause(t time.Duration) {
	timer := time.NewTimer(t)
	<-timer.C
}

// watch draws until ctx ends, or something dies that was not killed here.
func (d *demo) watch(ctx context.Context, consumed <-chan error, told chan error, began time.Time) error {
	period := time.Second
	if !d.live {
		period = 5 * time.Second
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case err := <-consumed:
			return fmt.Errorf("consume: %w", err)
		case err := <-told:
			told <- nil // for the goroutine that waits for its end
			return err
		case <-d.cluster.Edge.Exited():
			return fmt.Errorf("weir-edge has stopped\n%s", d.cluster.Edge.Tail(10))
		case <-tick.C:
			if d.live && !first {
				fmt.Fprintf(d.out, "\033[%dA", tableLines)
			}
			d.draw(time.Since(began))
		}
	}
}

// introduce prints what there is, what will happen, and what to try meanwhile. With the
// table it fits a terminal of 24 lines.
func (d *demo) introduce() {
	host, port := split(d.mqtt)
	fmt.Fprintf(d.out, "%d devices -> weir-edge -> link -> weir-cloud -> bucket -> a Kafka consumer\n", d.fleet.Devices)
	fmt.Fprint(d.out, "Soon the link is cut, then the cloud is killed. Ctrl-C ends it all. Meanwhile:\n")
	fmt.Fprintf(d.out, "  kcat -b %s -C -t sensors -o beginning\n", d.kafka)
	fmt.Fprintf(d.out, "  mosquitto_sub -h %s -p %s -t 'sensors/#' -v\n", host, port)
	fmt.Fprintf(d.out, "  amqp-consume -u amqp://%s -e amq.topic -r 'sensors.#' cat\n", d.amqp)
	fmt.Fprintf(d.out, "  export WEIRCTL_CLOUD=%s\n  export WEIRCTL_DATA=%s\n", d.http, d.cluster.CloudData())
	fmt.Fprintf(d.out, "  bin/weirctl topics             # or gateways, groups demo, queues\n  bin/weirctl check %s\n\n", d.cluster.Bucket)
}

// look asks the gateway and the cloud for their figures. If one does not answer, its
// last figures stay.
func (d *demo) look() {
	var gateway edge.Health
	if fetch(d.edgeHTTP+"/healthz", "", &gateway) == nil {
		d.buffer = int64(gateway.BufferedRecords)
		d.peak = max(d.peak, d.buffer)
	}
	var topics []console.Topic
	if fetch(d.http+"/v1/topics", d.token, &topics) == nil {
		for _, t := range topics {
			if t.Name == "sensors" {
				d.logged = t.Records
			}
		}
	}
}

// fetch asks an admin port, with its credential if one is needed.
func fetch(url, token string, v any) error {
	client := http.Client{Timeout: 2 * time.Second}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(v)
}
