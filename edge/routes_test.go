package edge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/weir"
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
  - filter: $aws/things/+/shadow/#
    topic: shadows
    key: "{gateway}/{3}"
  - filter: site/#
    topic: "{gateway}"
    key: "{2}"
    source: off
`))
	if err != nil {
		t.Fatal(err)
	}
	at := func(topic, key string, lane weir.Lane, named bool) Target {
		return Target{Topic: topic, Key: key, Lane: lane, Named: named, Source: true}
	}
	for _, c := range []struct {
		topic string
		qos   byte
		want  Target
		ok    bool
	}{
		{"plant/north/alarms/fire/1", 1, at("alarms", "north", 0, false), true},
		{"plant/north/alarms", 1, at("alarms", "north", 0, false), true},
		{"plant/north/state", 1, at("plant", "plant/north/state", 1, true), true},
		{"debug", 1, Target{}, false},
		{"debug/x", 1, Target{}, false},
		{"video/7", 1, at("video-7", "c1:video/7", 2, true), true},
		{"video/7", 0, Target{}, false},
		{"video/a b", 1, at("unrouted", "c1:video/a b", 2, true), true},
		{"sensors/a", 0, at("sensors", "sensors/a", 1, true), true},
		{"/lead", 0, at("unrouted", "/lead", 1, true), true},
		{"weir.gaps", 0, at("unrouted", "weir.gaps", 1, true), true},
		{"__consumer_offsets/x", 0, at("unrouted", "__consumer_offsets/x", 1, true), true},
		{"$SYS/x", 0, Target{}, false},
		{"$aws/things/7/shadow/update", 0, at("shadows", "gw-1/7", 1, false), true},
		{"$aws/rules/x", 0, Target{}, false},
		{"site/7/x", 0, Target{Topic: "gw-1", Key: "7", Lane: 1, Named: true}, true},
	} {
		got, ok := routes.Target(Origin{Topic: c.topic, Client: "c1", Gateway: "gw-1", QoS: c.qos})
		if got != c.want || ok != c.ok {
			t.Errorf("%s at QoS %d: got %+v %v, want %+v %v", c.topic, c.qos, got, ok, c.want, c.ok)
		}
	}
}

func TestRouteMistakes(t *testing.T) {
	for body, want := range map[string]string{
		"routes: [{filter: a/#/b, topic: x}]":                "# must be the last",
		"routes: [{filter: a+, topic: x}]":                   "stand alone",
		"routes: [{topic: x}]":                               "filter is missing",
		"routes: [{filter: a}]":                              "topic is missing",
		"routes: [{filter: a, topic: x, lane: fast}]":        `lane "fast"`,
		"routes: [{filter: a, topic: x, qos: 3}]":            "qos 3",
		"routes: [{filter: a, topic: '{0}'}]":                "unknown placeholder {0}",
		"routes: [{filter: a, topic: x, key: '{topik}'}]":    "did you mean {topic}",
		"routes: [{filter: a, topic: '{1'}]":                 "never closed",
		"routes: [{filter: a, topic: weir.x}]":               "is not a topic that gateways may write to",
		"routes: [{filter: a, topic: '{gatway}'}]":           "did you mean {gateway}",
		"routes: [{filter: a, topik: x}]":                    `unknown key "topik" (did you mean topic?)`,
		"routes:\n  - filter: a\n    topic: x\n    bogus: 1": `line 4: unknown key "bogus": there are filter,`,
		"rutes: []": `unknown key "rutes" (did you mean routes?)`,
		"routes: [{filter: a, topic: x, topic: y}]": "already defined",
		"routes: {filter: a}":                       "parse YAML",
		"[]":                                        "parse YAML",
		"routes: [{filter: a, topic: x, source: maybe}]":                                    `source "maybe" is neither`,
		"routes: [{filter: a/+, topic: x, key: k, tombstone: true}]":                        "+ in level 2 is not in key",
		"routes: [{filter: a/+/+, topic: x, key: '{2}', tombstone: true}]":                  "+ in level 3",
		"routes: [{filter: a/#, topic: x, key: '{2}', tombstone: true}]":                    "# in level 2",
		"routes: [{filter: 1/2/3/4/5/6/7/8/9/+, topic: x, key: '{1}{9}', tombstone: true}]": "+ in level 10",
		"routes: [{filter: a/+, topic: x, key: '{client}', tombstone: true}]":               "+ in level 2",
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
		if target, ok := routes.Target(Origin{Topic: topic, Client: "c", Gateway: "g", QoS: 1}); ok && !LegalTopic(target.Topic) {
			t.Errorf("illegal topic %q", target.Topic)
		}
		routes.Warnings()
	})
}

// TestTombstoneRoutes: routes whose keys tell all their topics apart may have
// tombstones.
func TestTombstoneRoutes(t *testing.T) {
	for _, route := range []string{
		"{filter: a, topic: x, key: k, tombstone: true}",
		"{filter: a/#, topic: x, tombstone: true}",
		"{filter: a/#, topic: x, key: '{gateway}:{topic}', tombstone: true}",
		"{filter: a/+/b/+, topic: x, key: '{4}/{2}', tombstone: true}",
	} {
		routes, err := ParseRoutes([]byte("routes: [" + route + "]"))
		if err != nil || !routes[0].Tombstone {
			t.Errorf("%s: %v", route, err)
		}
	}
}

// TestShadows: a warning names a route for which the routes before it leave no message.
func TestShadows(t *testing.T) {
	for _, c := range []struct {
		earlier, later string
		shadowed       bool
	}{
		{"#", "a/b", true}, {"#", "#", true}, {"#", "$aws/#", false}, {"+/#", "$aws/#", false},
		{"a/#", "a", true}, {"a/#", "a/+/#", true}, {"a/#", "a/b/#", true}, {"a/#", "+/b", false}, {"a/#", "ab", false},
		{"+", "a", true}, {"+", "#", false}, {"+/#", "#", true}, {"+/+/#", "a/#", false}, {"+/+", "a/b", true}, {"+/+", "a", false},
		{"a/+", "a/b", true}, {"a/b", "a/+", false}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/#", false},
		{"$aws/+", "$aws/x", true}, {"a", "a/b", false}, {"a/b", "a", false},
	} {
		body := fmt.Sprintf("routes: [{filter: %q, topic: x}, {filter: %q, topic: y}]", c.earlier, c.later)
		routes, err := ParseRoutes([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if w := routes.Warnings(); (len(w) == 1) != c.shadowed || c.shadowed && !strings.Contains(w[0], "route 2 ("+c.later+") can never match: route 1 ("+c.earlier+")") {
			t.Errorf("%s before %s: %q", c.earlier, c.later, w)
		}
	}
	for filter, want := range map[string]int{"$SYS/#": 1, "$share/g/#": 1, "$aws/#": 0} {
		routes, err := ParseRoutes([]byte(fmt.Sprintf("routes: [{filter: %q, topic: x}]", filter)))
		if err != nil || len(routes.Warnings()) != want {
			t.Errorf("%s: %q, %v", filter, routes.Warnings(), err)
		}
	}
}

// TestCovers: what a filter covers matches it, in every topic of up to four levels.
func TestCovers(t *testing.T) {
	var topics, filters []string
	var grow func(prefix string, depth int, levels []string, out *[]string)
	grow = func(prefix string, depth int, levels []string, out *[]string) {
		for _, level := range levels {
			*out = append(*out, prefix+level)
			if depth > 1 && level != "#" {
				grow(prefix+level+"/", depth-1, levels, out)
			}
		}
	}
	grow("", 4, []string{"a", "b", ""}, &topics)
	grow("", 3, []string{"a", "+", "#"}, &filters)
	for _, a := range filters {
		one := Route{Filter: a, levels: strings.Split(a, "/")}
		for _, b := range filters {
			other := Route{Filter: b, levels: strings.Split(b, "/")}
			all := true
			for _, topic := range topics {
				all = all && (!other.matches(topic) || one.matches(topic))
			}
			if got := covers(one.levels, other.levels); got && !all {
				t.Errorf("%s is said to cover %s", a, b)
			} else if !got && all {
				t.Errorf("%s covers %s", a, b)
			}
		}
	}
}
