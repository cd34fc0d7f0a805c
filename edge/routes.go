package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirmq/weir/configs"
)

// Unrouted is the topic of messages whose first level is no legal topic name.
const Unrouted = "unrouted"

// laneNames are the priority classes in the order of their numbers.
var laneNames = []string{"alarm", "live", "bulk"}

const laneLive = 1

// Route says where messages that match an MQTT filter go.
type Route struct {
	Filter string `yaml:"filter"`         // MQTT topic filter, with + and #
	Topic  string `yaml:"topic"`          // Kafka topic; {1}, {2} … are levels of the MQTT topic
	Key    string `yaml:"key"`            // record key, likewise; {topic} is the whole MQTT topic, {client} the client id
	Lane   string `yaml:"lane"`           // alarm, live or bulk
	QoS    byte   `yaml:"qos"`            // messages of a lower QoS stay on the gateway
	Drop   bool   `yaml:"drop,omitempty"` // matching messages stay on the gateway
	levels []string
	lane   uint8
}

// Routes map MQTT messages to topics; the first match counts. What no route
// matches goes to the topic named by its first level, keyed by the whole MQTT
// topic, on the live lane.
type Routes []Route

// LoadRoutes reads a file of the form
//
//	routes:
//	  - filter: plant/+/alarms/#
//	    topic: alarms
//	    key: "{2}"
//	    lane: alarm
func LoadRoutes(path string) (Routes, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	routes, err := ParseRoutes(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return routes, nil
}

// ParseRoutes parses the content of a routes file. An unknown key is an error.
func ParseRoutes(body []byte) (Routes, error) {
	var file struct {
		Routes Routes `yaml:"routes"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(body))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	for i := range file.Routes {
		if err := file.Routes[i].compile(); err != nil {
			return nil, fmt.Errorf("route %d (%s): %w", i+1, file.Routes[i].Filter, err)
		}
	}
	return file.Routes, nil
}

func (r *Route) compile() error {
	r.levels = strings.Split(r.Filter, "/")
	for i, level := range r.levels {
		switch {
		case level == "#" && i != len(r.levels)-1:
			return errors.New("# must be the last level of the filter")
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return errors.New("# and + must stand alone in a level of the filter")
		}
	}
	if r.Filter == "" {
		return errors.New("filter is missing")
	}
	if r.Lane == "" {
		r.Lane = laneNames[laneLive]
	}
	lane := -1
	for i, name := range laneNames {
		if name == r.Lane {
			lane = i
		}
	}
	if lane < 0 {
		return fmt.Errorf("lane %q is none of %s", r.Lane, strings.Join(laneNames, ", "))
	}
	r.lane = uint8(lane)
	if r.QoS > 2 {
		return fmt.Errorf("qos %d is not 0, 1 or 2", r.QoS)
	}
	if r.Topic == "" && !r.Drop {
		return errors.New("topic is missing (or say drop: true)")
	}
	for _, template := range []string{r.Topic, r.Key} {
		if err := checkTemplate(template); err != nil {
			return err
		}
	}
	if r.Key == "" {
		r.Key = "{topic}"
	}
	if !strings.Contains(r.Topic, "{") && !r.Drop && !LegalTopic(r.Topic) {
		return fmt.Errorf("%q cannot be the name of a topic that gateways write to", r.Topic)
	}
	return nil
}

// checkTemplate finds placeholders that expand would leave standing.
func checkTemplate(template string) error {
	for rest := template; ; {
		_, after, ok := strings.Cut(rest, "{")
		if !ok {
			return nil
		}
		name, tail, ok := strings.Cut(after, "}")
		if !ok {
			return fmt.Errorf("%q: { is never closed", template)
		}
		if name != "topic" && name != "client" && (len(name) != 1 || name[0] < '1' || name[0] > '9') {
			known := []string{"topic", "client"}
			if near := configs.Nearest(name, known); near != "" {
				return fmt.Errorf("%q: unknown placeholder {%s} (did you mean {%s}?)", template, name, near)
			}
			return fmt.Errorf("%q: unknown placeholder {%s}: there are {topic}, {client} and {1} to {9}", template, name)
		}
		rest = tail
	}
}

// Target is where a message goes.
type Target struct {
	Topic, Key string
	Lane       uint8
}

// Target routes one message; false if it stays on the gateway.
func (rs Routes) Target(topic, client string, qos byte) (Target, bool) {
	first, _, _ := strings.Cut(topic, "/")
	if strings.HasPrefix(first, "$") {
		return Target{}, false // [MQTT-4.7.2-1]: the broker's own topics
	}
	for i := range rs {
		r := &rs[i]
		if !r.matches(topic) {
			continue
		}
		if r.Drop || qos < r.QoS {
			return Target{}, false
		}
		return Target{legalOr(expand(r.Topic, topic, client)), expand(r.Key, topic, client), r.lane}, true
	}
	return Target{legalOr(first), topic, laneLive}, true
}

func (r *Route) matches(topic string) bool {
	rest, more := topic, true
	for _, want := range r.levels {
		if want == "#" {
			return true // "a/#" matches "a" as well [MQTT-4.7.1-2]
		}
		if !more {
			return false
		}
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if want != "+" && want != level {
			return false
		}
	}
	return !more
}

func expand(template, topic, client string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	if template == "{topic}" {
		return topic
	}
	pairs := []string{"{topic}", topic, "{client}", client}
	levels := strings.SplitN(topic, "/", 10)
	for i := range 9 {
		level := ""
		if i < len(levels) {
			level = levels[i]
		}
		pairs = append(pairs, "{"+string(rune('1'+i))+"}", level)
	}
	return strings.NewReplacer(pairs...).Replace(template)
}

func legalOr(topic string) string {
	if LegalTopic(topic) {
		return topic
	}
	return Unrouted
}

// LegalTopic reports whether gateways may write to a topic of that name: a
// legal Kafka topic name that is not one of Weir's or Kafka's own.
func LegalTopic(name string) bool {
	if name == "" || len(name) > 249 || name == "." || name == ".." ||
		strings.HasPrefix(name, "__") || strings.HasPrefix(name, "weir.") {
		return false
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
