package harness

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// Cluster is one weir-cloud and one weir-edge with a link between them, both
// with a directory of their own below Dir. They keep their addresses over
// restarts.
type Cluster struct {
	Dir       string
	Bucket    string   // URL; "" is a folder below Dir
	CloudArgs []string // further flags
	Doors     []string // further listeners of weir-cloud, by the names of their flags
	EdgeArgs  []string

	Cloud, Edge *Process
	Link        *Link

	cloudAddr, edgeAddr map[string]string // of the first start
}

// Prefer sets addresses to use instead of free ports, unless they are taken.
func (c *Cluster) Prefer(cloud, edge map[string]string) {
	c.cloudAddr, c.edgeAddr = free(cloud), free(edge)
}

func free(want map[string]string) map[string]string {
	got := make(map[string]string)
	for name, addr := range want {
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			got[name] = addr
		}
	}
	return got
}

// Open starts everything.
func (c *Cluster) Open() error {
	if c.Bucket == "" {
		c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	}
	if err := c.StartCloud(); err != nil {
		return err
	}
	link, err := NewLink(c.Cloud.Addr["sync"])
	if err != nil {
		return err
	}
	c.Link = link
	return c.StartEdge()
}

// StartCloud starts weir-cloud, at the addresses that it had before.
func (c *Cluster) StartCloud() error {
	args := append([]string{"--data", filepath.Join(c.Dir, "cloud"), "--bucket", c.Bucket,
		"--sync", at(c.cloudAddr, "sync"), "--kafka", at(c.cloudAddr, "kafka"), "--http", at(c.cloudAddr, "http"), "--peer", at(c.cloudAddr, "peer")}, c.CloudArgs...)
	for _, door := range c.Doors {
		args = append(args, "--"+door, at(c.cloudAddr, door))
	}
	p, err := Start(c.Dir, "cloud", "weir-cloud", args...)
	if err != nil {
		return err
	}
	c.Cloud, c.cloudAddr = p, p.Addr
	return nil
}

// StartEdge starts weir-edge, at the addresses that it had before.
func (c *Cluster) StartEdge() error {
	args := append([]string{"--data", filepath.Join(c.Dir, "edge"), "--cloud", c.Link.Addr(),
		"--join-file", filepath.Join(c.Dir, "cloud", "join-token"), "--gateway-id", "gw-1", "--source-header",
		"--mqtt", at(c.edgeAddr, "mqtt"), "--http", at(c.edgeAddr, "http")}, c.EdgeArgs...)
	p, err := Start(c.Dir, "edge", "weir-edge", args...)
	if err != nil {
		return err
	}
	c.Edge, c.edgeAddr = p, p.Addr
	return nil
}

func at(addr map[string]string, name string) string {
	if a := addr[name]; a != "" {
		return a
	}
	return "127.0.0.1:0"
}

// Close stops what runs, with SIGTERM. A process that does not exit properly is an
// error.
func (c *Cluster) Close() error {
	var problems []string
	for _, p := range []*Process{c.Edge, c.Cloud} {
		if p == nil {
			continue
		}
		select {
		case <-p.Exited(): // killed, or stopped by a test
		default:
			if err := p.Stop(); err != nil {
				problems = append(problems, fmt.Sprintf("stop %s: %v\n%s", p.Name, err, p.Tail(10)))
			}
		}
	}
	if c.Link != nil {
		if err := c.Link.Close(); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%s", strings.Join(problems, "\n"))
	}
	return nil
}

// Fleet describes devices of this cluster's gateway.
func (c *Cluster) Fleet(devices int, interval time.Duration, qos ...byte) device.Fleet {
	f := device.Fleet{Devices: devices, Prefix: "dev", Seed: 1, Brokers: []string{c.edgeAddr["mqtt"]},
		Topic: "sensors/{device}/telemetry", QoS: qos, Versions: []byte{3, 4, 5}}
	f.Interval, f.InFlight = interval, 64
	return f
}

// Reader reads this cluster's topic of readings.
func (c *Cluster) Reader(group string) audit.Reader {
	return audit.Reader{Brokers: []string{c.cloudAddr["kafka"]}, Topic: "sensors", Group: group}
}

// Weirctl runs weirctl against this cluster's weir-cloud, with its credential.
func (c *Cluster) Weirctl(args ...string) (stdout, stderr string, err error) {
	return Run("weirctl", append(args, "--cloud", c.HTTP(), "--data", c.CloudData())...)
}

// CloudData is the data directory of this cluster's weir-cloud.
func (c *Cluster) CloudData() string { return filepath.Join(c.Dir, "cloud") }

// Kafka is the address of the Kafka door, HTTP that of the console, MQTT that
// of the gateway.
func (c *Cluster) Kafka() string { return c.cloudAddr["kafka"] }
func (c *Cluster) HTTP() string  { return "http://" + c.cloudAddr["http"] }
func (c *Cluster) MQTT() string  { return c.edgeAddr["mqtt"] }

// EdgeHTTP is the address of the gateway's health and metrics.
func (c *Cluster) EdgeHTTP() string { return "http://" + c.edgeAddr["http"] }
