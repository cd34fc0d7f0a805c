package edge

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/edge/mqtt"
)

// sample is a message as devices of a kind send it, and what becomes of it.
type sample struct {
	Topic   string
	Payload string
	Hex     string // in the place of Payload, if it is no text
	Retain  bool

	Stays bool // on the gateway
	To    string
	Key   string
	Lane  string // live if empty
	Null  bool   // the record's value is null
}

func (s sample) payload(t *testing.T) []byte {
	if s.Hex == "" {
		return []byte(s.Payload)
	}
	b, err := hex.DecodeString(s.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readSamples(t *testing.T, path string) (all []sample) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		var s sample
		dec := json.NewDecoder(strings.NewReader(scanner.Text()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil {
			t.Fatalf("%s: %v in %s", path, err, scanner.Text())
		}
		all = append(all, s)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSampleRoutes: each file of configs/routes routes the messages of its kind of device as
// it says. Each of its routes can match, and matches a message of the test.
func TestSampleRoutes(t *testing.T) {
	files, err := filepath.Glob("../configs/routes/*.yaml")
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			routes, err := LoadRoutes(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range routes.Warnings() {
				t.Error(w)
			}
			used := make(map[int]bool)
			for _, s := range readSamples(t, "testdata/routes/"+name+".jsonl") {
				m := Origin{Topic: s.Topic, Client: "device-1", Gateway: "gw-1", QoS: 1}
				to, route, stays := routes.decide(&m)
				used[route] = true
				if stays != "" || s.Stays {
					if route == noRoute || (stays != "") != s.Stays {
						t.Errorf("%s: route %d, stays: %q", s.Topic, route+1, stays)
					}
					continue
				}
				if lane := to.Lane.String(); to.Topic != s.To || to.Key != s.Key || lane != s.Lane && (s.Lane != "" || lane != "live") {
					t.Errorf("%s: %+v on lane %s, want %s, key %s", s.Topic, to, lane, s.To, s.Key)
				}
				r, _ := encode(&mqtt.Message{Topic: s.Topic, Payload: s.payload(t), QoS: 1, Retain: s.Retain, Version: 4}, to, new(arena))
				if (r.Value == nil) != s.Null || string(r.Value) != string(s.payload(t)) {
					t.Errorf("%s: value %q", s.Topic, r.Value)
				}
			}
			for i := range routes {
				if !used[i] {
					t.Errorf("no message takes route %d (%s)", i+1, routes[i].Filter)
				}
			}
		})
	}
	if routes, err := LoadRoutes("../configs/routes.yaml"); err != nil || len(routes) < 3 || len(routes.Warnings()) > 0 {
		t.Errorf("configs/routes.yaml: %d routes, %v", len(routes), err)
	}
}

// TestFromMosquitto: what the bridge of the page for users of mosquitto sent out goes to the
// cloud, a device's readings in order, and the rest stays.
func TestFromMosquitto(t *testing.T) {
	routes, err := LoadRoutes("../configs/from-mosquitto/routes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range routes.Warnings() {
		t.Error(w)
	}
	for topic, want := range map[string]string{"sensors/pump-7/pressure": "sensors pump-7", "sensors/pump-7": "sensors pump-7",
		"plant/a/b/c": "plant a", "debug/x": "", "sensors": ""} {
		to, _, stays := routes.decide(&Origin{Topic: topic, Client: "c", Gateway: "gw-1", QoS: 1})
		got := ""
		if stays == "" {
			got = to.Topic + " " + to.Key
		}
		if got != want {
			t.Errorf("%s goes to %q, want %q", topic, got, want)
		}
	}
}
