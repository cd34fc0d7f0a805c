package edge

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	routes, err := ParseRoutes([]byte(`routes:
  - {filter: plant/+/alarms/#, topic: alarms, key: "{2}", lane: alarm, qos: 1}
  - {filter: debug/#, drop: true}
  - {filter: state/#, topic: states, source: off, tombstone: true}
  - {filter: name/+, topic: "{2}", key: "{gateway}"}`))
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]string{
		"plant/n/alarms/1": "route     1, plant/+/alarms/#\ntopic     alarms\nkey       n\nlane      alarm\nqos       1 and above\n" +
			"headers   weir.gateway: gw-1\n          weir.client: c-7\n          weir.mqtt-topic: plant/n/alarms/1\n",
		"state/1": "route     3, state/#\ntopic     states\nkey       state/1\nlane      live\nqos       0 and above\n" +
			"headers   none, but for properties of MQTT 5\ntombstone an empty retained payload deletes the key in a compacted topic\n",
		"other/1": "route     none matches: the first level is the Kafka topic\ntopic     other\nkey       other/1\nlane      live\n" +
			"headers   weir.gateway: gw-1\n          weir.client: c-7\n",
		"name/a b": "route     4, name/+\ntopic     unrouted (\"a b\" cannot be the name of a topic that gateways write to)\nkey       gw-1\nlane      live\nqos       0 and above\n" +
			"headers   weir.gateway: gw-1\n          weir.client: c-7\n          weir.mqtt-topic: name/a b\n",
	} {
		var out bytes.Buffer
		if err := routes.Explain(&out, Origin{Topic: topic, Client: "c-7", Gateway: "gw-1", QoS: 1}, false); err != nil || out.String() != want {
			t.Errorf("%s: %v\n%s, want\n%s", topic, err, &out, want)
		}
	}
	for topic, want := range map[string]string{
		"debug/x":          "drop: true",
		"plant/n/alarms/1": "its QoS is lower",
		"$SYS/x":           "begin with $",
	} {
		var out bytes.Buffer
		if err := routes.Explain(&out, Origin{Topic: topic}, false); !errors.Is(err, ErrStays) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	for _, topic := range []string{"", "a/+", "#"} {
		if err := routes.Explain(&bytes.Buffer{}, Origin{Topic: topic}, false); err == nil || errors.Is(err, ErrStays) {
			t.Errorf("%q: %v", topic, err)
		}
	}
}
