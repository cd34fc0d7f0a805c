package edge

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage/weir"
)

// Route says where messages that match an MQTT filter go.
type Route struct {
	Filter    string `yaml:"filter"`    // MQTT topic filter, with + and #
	Topic     string `yaml:"topic"`     // Kafka topic; {1}, {2} … are levels of the MQTT topic, {gateway} the gateway's id
	Key       string `yaml:"key"`       // record key, with the same placeholders; {topic} is the whole MQTT topic, {client} the client id
	Lane      string `yaml:"lane"`      // alarm, live or bulk
	QoS       byte   `yaml:"qos"`       // messages of a lower QoS stay on the gateway
	Drop      bool   `yaml:"drop"`      // matching messages stay on the gateway
	Tombstone bool   `yaml:"tombstone"` // an empty retained payload becomes a null value
	Source    string `yaml:"source"`    // on: headers name gateway and client; off

	levels     []string
	topic, key template
	lane       weir.Lane
	anonymous  bool // no headers name the source
}

// Routes map MQTT messages to topics; the first route that matches counts. A message
// that no route matches goes to the topic named by its first level, on the live lane,
// with the whole MQTT topic as its key.
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

// Known keys of a routes file, and of a route.
var (
	fileKeys  = []string{"routes"}
	routeKeys = []string{"filter", "topic", "key", "lane", "qos", "drop", "tombstone", "source"}
)

// ParseRoutes parses the content of a routes file. An unknown key is an error that
// names the nearest known one.
func ParseRoutes(body []byte) (Routes, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	if err := checkKeys(doc.Content[0], fileKeys); err != nil {
		return nil, err
	}
	var file struct {
		Routes []yaml.Node `yaml:"routes"`
	}
	if err := doc.Decode(&file); err != nil {
		return nil, fmt.Errorf("parse YAML: %w", err)
	}
	var routes Routes
	for i := range file.Routes {
		var r Route
		node := &file.Routes[i]
		err := node.Decode(&r)
		if err == nil {
			err = checkKeys(node, routeKeys)
		}
		if err == nil {
			err = r.compile()
		}
		if err != nil {
			return nil, fmt.Errorf("route %d (%s): %w", i+1, r.Filter, err)
		}
		routes = append(routes, r)
	}
	return routes, nil
}

// checkKeys returns an error if a mapping has an unknown key.
func checkKeys(n *yaml.Node, known []string) error {
	if n.Kind != yaml.MappingNode {
		return nil // Decode reports what it should be
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if slices.Contains(known, key.Value) {
			continue
		}
		if near := configs.Nearest(key.Value, known); near != "" {
			return fmt.Errorf("line %d: unknown key %q (did you mean %s?)", key.Line, key.Value, near)
		}
		return fmt.Errorf("line %d: unknown key %q: there are %s", key.Line, key.Value, strings.Join(known, ", "))
	}
	return nil
}

// compile checks a route and makes it ready for use.
func (r *Route) compile() error {
	if err := r.compileFilter(); err != nil {
		return err
	}
	if r.Lane == "" {
		r.Lane = weir.Live.String()
	}
	lane, err := weir.ParseLane(r.Lane)
	if err != nil {
		return err
	}
	r.lane = lane
	if r.QoS > 2 {
		return fmt.Errorf("qos %d is not 0, 1 or 2", r.QoS)
	}
	switch r.Source {
	case "", "on", "true":
	case "off", "false":
		r.anonymous = true
	default:
		return fmt.Errorf("source %q is neither on nor off", r.Source)
	}
	if r.Topic == "" && !r.Drop {
		return errors.New("topic is missing (or set drop: true)")
	}
	if r.Key == "" {
		r.Key = "{topic}"
	}
	if r.topic, err = parseTemplate(r.Topic); err != nil {
		return err
	}
	if r.key, err = parseTemplate(r.Key); err != nil {
		return err
	}
	if r.topic.fixed() && !r.Drop && !LegalTopic(r.Topic) {
		return fmt.Errorf("%q is not a topic that gateways may write to", r.Topic)
	}
	return r.checkTombstone()
}

func (r *Route) compileFilter() error {
	if r.Filter == "" {
		return errors.New("filter is missing")
	}
	r.levels = strings.Split(r.Filter, "/")
	for i, level := range r.levels {
		switch {
		case level == "#" && i != len(r.levels)-1:
			return errors.New("# must be the last level of the filter")
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return errors.New("# and + must stand alone in a level of the filter")
		}
	}
	return nil
}

// checkTombstone makes sure that no two MQTT topics of a route with tombstones have
// the same key: clearing one value would delete the other.
func (r *Route) checkTombstone() error {
	if !r.Tombstone || r.key.has(partTopic) {
		return nil
	}
	for i, level := range r.levels {
		if level == "#" || level == "+" && (i >= maxLevel || !r.key.has(partKind(i+1))) {
			return fmt.Errorf("tombstone: true needs a key that tells apart all topics of the filter, or clearing one value "+
				"deletes others: put {topic} into the key, or every level that is a + (%s in level %d is not in key %q)", level, i+1, r.Key)
		}
	}
	return nil
}

// LegalTopic reports whether gateways may write to a topic of that name: it is a
// legal Kafka topic name and not reserved for Weir or Kafka.
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
