package kafka

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DescribeConfigs (key 32): the settings of topics, brokers and groups.
//
// Behaviour:
//   - A topic has all settings of broker.TopicSettings, including those without an
//     effect here; the documentation in the answer says why. A setting that the topic
//     does not set has its default, with source DEFAULT_CONFIG.
//   - Synonyms are the topic's own value, if any, and then the default, under the
//     name of Kafka's broker setting.
//   - A broker is named by its number, or "" for the default of all. Some of its
//     settings can be changed while it runs: those are not read-only.
//   - A group has settings whether it exists or not.
//   - A null or empty list of names asks for all settings. Unknown names are left out
//     of the answer. Other kinds of resources are INVALID_REQUEST.
//   - A standby answers for topics from its copy, and for itself.
//
// Versions:
//   - v1: sources and synonyms in place of is_default
//   - v3: types and documentation; v4: flexible
func (s *Server) describeConfigs(ctx context.Context, r *request, q *kmsg.DescribeConfigsRequest) (*kmsg.DescribeConfigsResponse, error) {
	resp := kmsg.NewPtrDescribeConfigsResponse()
	resp.Version = q.Version
	for _, want := range q.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = want.ResourceType, want.ResourceName
		all, err := s.configsOf(ctx, r, want.ResourceType, want.ResourceName)
		rr.ErrorCode, rr.ErrorMessage = code(err, controller), message(err)
		for _, c := range all {
			if len(want.ConfigNames) == 0 || slices.Contains(want.ConfigNames, c.Name) {
				rr.Configs = append(rr.Configs, c.answer(q.IncludeSynonyms, q.IncludeDocumentation))
			}
		}
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
}

// config is a setting with its value.
type config struct {
	broker.Setting
	value    string
	source   kmsg.ConfigSource
	readOnly bool
	changed  []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym // what clients have set for a broker
}

// configsOf lists the settings of a resource, if the client may see them.
func (s *Server) configsOf(ctx context.Context, r *request, typ kmsg.ConfigResourceType, name string) ([]config, error) {
	switch typ {
	case kmsg.ConfigResourceTypeTopic:
		if !r.may(kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeTopic, name) {
			return nil, errTopicDenied
		}
		if err := checkName(name); err != nil && !broker.Reserved(name) {
			return nil, err
		}
		t, err := r.known(ctx, kmsg.ACLOperationDescribeConfigs, name, [16]byte{}, false)
		if err != nil {
			return nil, err
		}
		return s.topicConfigs(t), nil
	case kmsg.ConfigResourceTypeBroker:
		if err := r.mayCluster(kmsg.ACLOperationDescribeConfigs); err != nil {
			return nil, err
		}
		if here := r.conn.here; here != nil && name == strconv.Itoa(int(here.id)) {
			name = "" // all nodes; this one answers
		}
		if err := s.checkBroker(name); err != nil {
			return nil, err
		}
		return s.brokerConfigs()
	case kmsg.ConfigResourceTypeGroupConfig:
		if err := r.checkGroupConfigs(kmsg.ACLOperationDescribeConfigs, name); err != nil {
			return nil, err
		}
		return s.groupConfigs(name)
	}
	return nil, refused(kerr.InvalidRequest, "resources of type %d have no settings here", typ)
}

// configuredTopic finds the topic that a config resource names.
func (s *Server) configuredTopic(name string) (broker.Topic, error) {
	if err := checkName(name); err != nil && !broker.Reserved(name) {
		return broker.Topic{}, err
	}
	return s.broker.Topic(name)
}

// checkBroker returns nil if a config resource names this broker, or all.
func (s *Server) checkBroker(name string) error {
	if name == "" {
		return nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return refused(kerr.InvalidRequest, "a broker is named by its number, not by %q", name)
	}
	if self := s.broker.Self().ID; int32(id) != self {
		return refused(kerr.InvalidRequest, "this is broker %d, broker %d has to be asked itself", self, id)
	}
	return nil
}

// checkGroupConfigs returns nil if the client may do op to the settings of a group.
func (r *request) checkGroupConfigs(op kmsg.ACLOperation, name string) error {
	if name == "" {
		return refused(kerr.InvalidRequest, "there are no settings for all groups")
	}
	return r.mayGroup(op, name)
}

// changed is what clients have set for one broker, or for all.
type changed struct {
	values map[string]string
	source kmsg.ConfigSource
}

// changes returns what clients have set that applies to a broker, in order of
// precedence.
func (s *Server) changes(of broker.Node) ([]changed, error) {
	own, err := s.broker.BrokerValues(strconv.Itoa(int(of.ID)))
	if err != nil {
		return nil, err
	}
	all, err := s.broker.BrokerValues("")
	return []changed{{own, kmsg.ConfigSourceDynamicBrokerConfig}, {all, kmsg.ConfigSourceDynamicDefaultBrokerConfig}}, err
}

func (s *Server) topicConfigs(t broker.Topic) []config {
	of := s.broker.Self()
	if owner, ok := s.broker.Controller(); ok {
		of = owner.Node
	}
	changes, err := s.changes(of)
	if err != nil || broker.OwnTopic(t.Name) {
		changes = nil // no longer the owner: answer the values from the start
	}
	known := broker.TopicSettings()
	all := make([]config, 0, len(known))
	for _, s := range known {
		c := config{Setting: s, value: s.Default, source: kmsg.ConfigSourceDefaultConfig}
		for _, x := range changes {
			c.take(x, s.Broker)
		}
		if own, ok := t.Configs[s.Name]; ok {
			c.value, c.source = own, kmsg.ConfigSourceDynamicTopicConfig
		}
		all = append(all, c)
	}
	return all
}

func (s *Server) brokerConfigs() ([]config, error) {
	changes, err := s.changes(s.broker.Self())
	if err != nil && !errors.Is(err, broker.ErrNotOwner) { // a standby answers the values from its start
		return nil, err
	}
	known := s.broker.Settings()
	all := make([]config, 0, len(known))
	for _, s := range known {
		c := config{Setting: s, value: s.Default, source: kmsg.ConfigSourceStaticBrokerConfig, readOnly: !s.Alterable()}
		c.Broker = ""
		for _, x := range changes {
			c.take(x, s.Name)
		}
		all = append(all, c)
	}
	return all, nil
}

func (s *Server) groupConfigs(name string) ([]config, error) {
	values, err := s.broker.GroupValues(name)
	if err != nil {
		return nil, err
	}
	var all []config
	for _, s := range broker.GroupSettings() {
		c := config{Setting: s, value: s.Default, source: kmsg.ConfigSourceDefaultConfig}
		if own, ok := values[s.Name]; ok {
			c.value, c.source = own, kmsg.ConfigSourceGroupConfig
		}
		all = append(all, c)
	}
	return all, nil
}

// take sets c to the value that clients have set under a broker setting's name,
// unless an earlier one has set it.
func (c *config) take(x changed, name string) {
	value, ok := x.values[name]
	if !ok || name == "" {
		return
	}
	if len(c.changed) == 0 {
		c.value, c.source = value, x.source
	}
	c.changed = append(c.changed, synonym(name, value, x.source))
}

func (c *config) answer(synonyms, documentation bool) kmsg.DescribeConfigsResponseResourceConfig {
	rc := kmsg.NewDescribeConfigsResponseResourceConfig()
	rc.Name, rc.Value, rc.ReadOnly = c.Name, &c.value, c.readOnly
	rc.Source, rc.IsDefault = c.source, c.source == kmsg.ConfigSourceDefaultConfig
	rc.ConfigType = kmsg.ConfigType(c.Type)
	if documentation {
		doc := c.Doc
		if c.Inert != "" {
			doc += " No effect here: " + c.Inert
		}
		rc.Documentation = &doc
	}
	if !synonyms {
		return rc
	}
	switch c.source {
	case kmsg.ConfigSourceDefaultConfig, kmsg.ConfigSourceDynamicBrokerConfig, kmsg.ConfigSourceDynamicDefaultBrokerConfig:
	default:
		rc.ConfigSynonyms = append(rc.ConfigSynonyms, synonym(c.Name, c.value, c.source))
	}
	rc.ConfigSynonyms = append(rc.ConfigSynonyms, c.changed...)
	if c.Broker != "" {
		rc.ConfigSynonyms = append(rc.ConfigSynonyms, synonym(c.Broker, c.Default, kmsg.ConfigSourceDefaultConfig))
	}
	return rc
}

func synonym(name, value string, source kmsg.ConfigSource) kmsg.DescribeConfigsResponseResourceConfigConfigSynonym {
	s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
	s.Name, s.Value, s.Source = name, &value, source
	return s
}
