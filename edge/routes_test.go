package edge

import (
	"strings"
	"testing"
)

func TestRoutes(t *testing.T) {
	routes, err := ParseRoutes([]byte(`
routes:
  - filter: plant/+/alarms/#
    topic: alarms
    key: "{2}"
    lane: alarm
  - filter: debug/#
    drop: true
  - filter: video/+
    topic: "video-{2}"
    key: "{client}:{topic}"
    lane: bulk
    qos: 1
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		topic string
		qos   byte
		want  Target
		ok    bool
	}{
		{"plant/north/alarms/fire/1", 1, Target{"alarms", "north", 0}, true},
		{"plant/north/alarms", 1, Target{"alarms", "north", 0}, true},
		{"plant/north/state", 1, Target{"plant", "plant/north/state", 1}, true},
		{"debug", 1, Target{}, false},
		{"debug/x", 1, Target{}, false},
		{"video/7", 1, Target{"video-7", "c1:video/7", 2}, true},
		{"video/7", 0, Target{}, false},
		{"video/a b", 1, Target{"unrouted", "c1:video/a b", 2}, true},
		{"sensors/a", 0, Target{"sensors", "sensors/a", 1}, true},
		{"/lead", 0, Target{"unrouted", "/lead", 1}, true},
		{"weir.gaps", 0, Target{"unrouted", "weir.gaps", 1}, true},
		{"__consumer_offsets/x", 0, Target{"unrouted", "__consumer_offsets/x", 1}, true},
		{"$SYS/x", 0, Target{}, false},
	} {
		got, ok := routes.Target(c.topic, "c1", c.qos)
		if got != c.want || ok != c.ok {
			t.Errorf("%s at QoS %d: got %+v %v, want %+v %v", c.topic, c.qos, got, ok, c.want, c.ok)
		}
	}
}

func TestRouteMistakes(t *testing.T) {
	for body, want := range map[string]string{
		"routes: [{filter: a/#/b, topic: x}]":             "# must be the last",
		"routes: [{filter: a+, topic: x}]":                "stand alone",
		"routes: [{topic: x}]":                            "filter is missing",
		"routes: [{filter: a}]":                           "topic is missing",
		"routes: [{filter: a, topic: x, lane: fast}]":     `lane "fast"`,
		"routes: [{filter: a, topic: x, qos: 3}]":         "qos 3",
		"routes: [{filter: a, topic: '{0}'}]":             "unknown placeholder {0}",
		"routes: [{filter: a, topic: x, key: '{topik}'}]": "did you mean {topic}",
		"routes: [{filter: a, topic: '{1'}]":              "never closed",
		"routes: [{filter: a, topic: weir.x}]":            "cannot be the name",
		"routes: [{filter: a, topik: x}]":                 "topik",
		"rutes: []":                                       "rutes",
	} {
		if _, err := ParseRoutes([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
	if rs, err := ParseRoutes(nil); err != nil || len(rs) != 0 {
		t.Errorf("empty file: %v %v", rs, err)
	}
}

func FuzzRoutes(f *testing.F) {
	f.Add([]byte("routes: [{filter: a/+/#, topic: '{1}', key: '{topic}'}]"), "a/b/c")
	f.Fuzz(func(t *testing.T, body []byte, topic string) {
		routes, err := ParseRoutes(body)
		if err != nil {
			return
		}
		if target, ok := routes.Target(topic, "c", 1); ok && !LegalTopic(target.Topic) {
			t.Errorf("illegal topic %q", target.Topic)
		}
	})
}

func TestSampleRoutes(t *testing.T) {
	routes, err := LoadRoutes("../configs/routes.yaml")
	if err != nil || len(routes) != 3 {
		t.Errorf("%d routes: %v", len(routes), err)
	}
}
