package e2e

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weirmq/weir"

// floors is the house: a package imports only packages of lower floors. Where
// a floor has an upper half ("journal, then commitlog above it"), the half is
// written as .5. The first pattern that matches counts.
var floors = []struct {
	pattern string
	floor   float64
}{
	{"storage/record", 0.05}, {"storage/weir", 0}, {"storage/coding", 0}, {"storage/crc", 0}, {"storage/freelist", 0}, {"storage/record/recordtest", 0.1},
	{"storage/pause", 0}, {"storage/durable", 0},
	{"storage/storagetest", 5}, {"storage/s3/s3test", 5}, {"storage/open", 5},
	{"storage/redis/redistest", 5}, {"storage/mysql/mysqltest", 5}, {"storage/hdfs/hdfstest", 5},
	{"storage/journal", 2}, {"storage/journal/model", 2.5}, {"storage/commitlog/state", 2.2}, {"storage/commitlog/identity", 2.3}, {"storage/commitlog/check", 2.4}, {"storage/commitlog/upkeep", 2.4}, {"storage/commitlog", 2.5},
	{"storage/segment/reader", 1.5},
	{"storage", 0.5}, {"storage/*", 1}, {"storage/file/disk", 0.7}, {"storage/file/row", 0.8},
	{"configs", 1}, {"configs/systemd", 1},
	{"cloud/budget", 0.2}, {"cloud/listener", 0.25}, {"cloud/exposition", 0.2}, {"cloud/admin", 0.3}, {"cloud/measure", 3.7},
	{"edge/wal", 1}, {"edge/websocket", 1}, {"sync/wire", 1}, {"sync/wire/wiretest", 1.5}, {"sync/join", 1},
	{"cloud/queue/routing", 1}, {"cloud/queue/state", 1.5}, {"cloud/amqp091/wire", 1}, {"cloud/amqp091/wire/gen", 1}, {"cloud/properties", 1.2},
	{"cloud/group", 3}, {"cloud/fleet", 3}, {"cloud/cluster", 3}, {"cloud/stopwatch", 0.2}, {"cloud/machine", 2.8}, {"cloud/machine/machinetest", 2.85}, {"cloud/auth/bearer", 2.9}, {"sync/uplink", 2.85}, {"sync/uplink/uplinktest", 2.87}, {"cloud/peer", 2.9}, {"cloud/auth", 3}, {"cloud/txn", 3.2}, {"cloud/quota", 3}, {"cloud/queue", 3.2}, {"cloud/settings", 3}, {"cloud/login", 3.4}, {"cloud/shard", 3.4}, {"cloud/broker", 3.5}, {"cloud/broker/brokertest", 3.55}, {"cloud/access", 3.6},
	{"cloud/bridge", 3.6}, {"cloud/streamqueue", 3.6},
	{"cloud/kafka", 4}, {"cloud/amqp091", 4}, {"cloud/amqp091/declaration", 3.3}, {"cloud/management", 4}, {"cloud/console", 4}, {"edge/mqtt", 4}, {"sync/sender", 4}, {"sync/receiver", 4},
	{"cloud/share/state", 1}, {"cloud/share", 3},
	{"edge", 5}, {"cloud", 5}, {"firmware-sim/device", 4.5}, {"firmware-sim/audit", 5},
	{"edge/weir-edge", 6}, {"cloud/weir-cloud", 6}, {"cloud/weirctl", 6}, {"firmware-sim", 6},
	{"e2e/harness", 6}, {"e2e/linear", 6}, {"e2e/listappend", 6}, {"e2e", 6.5}, {"e2e/*", 6.5}, {"e2e/*/*", 6.5},
	{"cloud/recent", 0.2}, {"cloud/split", 0.2}, {"cloud/payload", 0.2}, {"cloud/page", 4.2},
}

// homes says which packages may import a third-party module. A module that is
// not listed here may not be used at all.
var homes = map[string][]string{
	"github.com/minio/minio-go/v7":          {"storage/s3", "storage/s3/s3test"},
	"github.com/redis/go-redis/v9":          {"storage/redis"},
	"github.com/go-sql-driver/mysql":        {"storage/mysql", "storage/mysql/mysqltest"},
	"github.com/coder/websocket":            {"edge/websocket"},
	"github.com/tidwall/wal":                {"edge/wal"},
	"github.com/coreos/go-systemd/v22":      {"configs/systemd"},
	"github.com/quic-go/quic-go":            {"sync/sender", "sync/receiver"},
	"github.com/mochi-mqtt/server/v2":       {"edge/mqtt", "e2e/bench/peer"},
	"github.com/twmb/franz-go/pkg/kmsg":     {"storage/record", "cloud/kafka", "e2e/linear"},
	"github.com/twmb/franz-go/pkg/kadm":     {"e2e/linear", "e2e/listappend"},
	"github.com/twmb/franz-go/pkg/kversion": {"e2e/linear", "e2e/listappend"},
	"github.com/twmb/franz-go/pkg/kerr":     {"cloud/kafka"},
	"github.com/twmb/franz-go/pkg/sasl":     {"cloud/weirctl"},
	"github.com/RoaringBitmap/roaring":      {"cloud/queue/state"},
	"github.com/rabbitmq/amqp091-go":        {"cloud/amqp091", "cloud/amqp091/wire", "e2e", "e2e/*"}, // tests only
	"github.com/go-jose/go-jose/v4":         {"cloud/auth/bearer"},
	"github.com/twmb/franz-go/pkg/kgo":      {"firmware-sim/audit", "cloud/weirctl", "e2e", "e2e/*"},
	"github.com/anishathalye/porcupine":     {"e2e/linear"},
	"github.com/fxamacker/cbor/v2":          {"cloud/payload"},
	"github.com/klauspost/compress":         {"storage/record"},
	"github.com/pierrec/lz4/v4":             {"storage/record"},
	"github.com/spf13/pflag":                {"configs", "edge/weir-edge", "cloud/weir-cloud", "cloud/weirctl", "firmware-sim", "e2e/*"},
	"go.yaml.in/yaml/v3":                    {"configs", "edge"},
	"github.com/VictoriaMetrics/metrics":    {"storage", "edge", "edge/mqtt", "cloud", "cloud/amqp091", "cloud/bridge", "cloud/broker", "cloud/console", "cloud/kafka", "cloud/measure", "cloud/streamqueue", "sync/sender", "sync/receiver"},
	"golang.org/x/crypto":                   {"edge/mqtt"},
	"golang.org/x/sys":                      {"storage/file", "storage/file/*", "edge/wal"},
	"golang.org/x/term":                     {"cloud/weir-cloud", "cloud/weirctl", "firmware-sim", "e2e/*"},
	"golang.org/x/time":                     {"firmware-sim/device"},
	"github.com/jedib0t/go-pretty/v6":       {"cloud/weirctl", "e2e/*"},
	"github.com/opencontainers":             {"e2e/packages"},
}

// bans: what a package must not even import through others.
var bans = map[string][]string{
	"edge/weir-edge": {module + "/cloud", module + "/storage/s3", module + "/storage/redis", module + "/storage/mysql", module + "/storage/hdfs", "github.com/minio", "github.com/twmb/franz-go/pkg/kgo"},
	"sync/sender":    {module + "/edge", module + "/cloud"},
	"sync/receiver":  {module + "/edge", module + "/cloud"},
}

// lent are the packages of the cloud that gateways use as well, and what these have
// from elsewhere. They import the standard library and each other only.
var lent = []string{module + "/storage/pause", module + "/storage/freelist", module + "/cloud/budget", module + "/cloud/listener", module + "/cloud/admin", module + "/cloud/exposition"}

func matches(pattern, pkg string) bool {
	ok, err := path.Match(pattern, pkg)
	return err == nil && ok
}

func floorOf(t *testing.T, pkg string) float64 {
	for _, f := range floors {
		if matches(f.pattern, pkg) {
			return f.floor
		}
	}
	t.Fatalf("package %s has no floor: give it one in floors_test.go", pkg)
	return 0
}

func goList(t *testing.T, args ...string) map[string][]string {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, out)
	}
	all := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[0]] = fields[1:]
	}
	return all
}

// own cuts the module's path off; false for a foreign package.
func own(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module+"/")
}

func TestImportsGoDown(t *testing.T) {
	for importPath, imports := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		pkg, _ := own(importPath)
		for _, i := range imports {
			below, ok := own(i)
			if !ok {
				continue
			}
			if floorOf(t, below) >= floorOf(t, pkg) {
				t.Errorf("%s (floor %v) imports %s (floor %v): imports go only downward", pkg, floorOf(t, pkg), below, floorOf(t, below))
			}
		}
	}
}

func TestThirdPartyPackagesStayAtHome(t *testing.T) {
	for importPath, imports := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		pkg, _ := own(importPath)
		for _, i := range imports {
			_, inModule := own(i)
			if host, _, _ := strings.Cut(i, "/"); inModule || !strings.Contains(host, ".") {
				continue
			}
			home, ok := homeOf(i)
			if !ok {
				t.Errorf("%s imports %s, which has no home: add it to floors_test.go or do without", pkg, i)
			} else if !slices.ContainsFunc(home, func(p string) bool { return matches(p, pkg) }) {
				t.Errorf("%s imports %s, whose home is %v", pkg, i, home)
			}
		}
	}
}

func homeOf(importPath string) ([]string, bool) {
	for mod, home := range homes {
		if importPath == mod || strings.HasPrefix(importPath, mod+"/") {
			return home, true
		}
	}
	return nil, false
}

func TestBans(t *testing.T) {
	for pkg, banned := range bans {
		for dep := range goList(t, "-deps", "./"+pkg) {
			if slices.Contains(lent, dep) {
				continue
			}
			for _, b := range banned {
				if dep == b || strings.HasPrefix(dep, b+"/") {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}

func TestBansOfLentPackages(t *testing.T) {
	seen := 0
	for importPath, imports := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./cloud/...") {
		if !slices.Contains(lent, importPath) {
			continue
		}
		seen++
		for _, i := range imports {
			if host, _, _ := strings.Cut(i, "/"); strings.Contains(host, ".") && !slices.Contains(lent, i) {
				t.Errorf("%s imports %s: weir-edge would carry it too", importPath, i)
			}
		}
	}
	if seen == 0 {
		t.Error("no such package is there")
	}
}
