package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/configs"
)

// ErrFixed means that a setting of the node can be set only when it starts.
var ErrFixed = errors.New("setting cannot be changed while the node runs")

// The settings of the broker that can be changed and are not defaults of topics.
const (
	autoCreate    = "auto.create.topics.enable"
	numPartitions = "num.partitions"
)

// The settings of groups.
const (
	consumerSession   = "consumer.session.timeout.ms"
	consumerHeartbeat = "consumer.heartbeat.interval.ms"
)

// groupSettings lists the settings of groups, by name (KIP-848, KIP-932, KIP-1191).
var groupSettings = []Setting{
	{Name: consumerHeartbeat, Type: Int, Default: "5000", rule: between(100, 60_000),
		Doc: "How often members of the group send heartbeats, in the newer group protocol. It must be less than consumer.session.timeout.ms."},
	{Name: consumerSession, Type: Int, Default: "45000", rule: between(1_000, 1_800_000),
		Doc: "A member of the group is removed after this long without a heartbeat, in the newer group protocol."},
	{Name: shareCopyDead, Type: Boolean, Default: "false", rule: trueFalse,
		Doc: "Whether a dead letter of a share group has key, value and headers of its record; else it only says where that is, and why it was given up."},
	{Name: shareDeadLetters, Type: String, rule: deadLetterTopics,
		Doc: "A topic that gets the records that a share group gives up: those that a member rejects, and those that were delivered share.delivery.count.limit times without success. Its name begins with dlq., and it has errors.deadletterqueue.group.enable=true. Empty: none."},
	{Name: shareReset, Type: String, Default: "latest", rule: resets,
		Doc: "Where a share group begins to read a partition: latest, earliest, or by_duration: and how long ago, such as by_duration:PT1H."},
	{Name: shareDeliveries, Type: Int, Default: "5", rule: between(2, 10),
		Doc: "A record is not delivered again to a share group when so many deliveries of it have ended without success."},
	{Name: shareHeartbeat, Type: Int, Default: "5000", rule: between(100, 60_000),
		Doc: "How often members of a share group send heartbeats. It must be less than share.session.timeout.ms."},
	{Name: shareIsolation, Type: String, Default: "read_uncommitted", rule: oneOf("read_uncommitted", "read_committed"),
		Doc: "Whether a share group gets records of transactions that are open or were aborted."},
	{Name: shareLocks, Type: Int, Default: "2000", rule: between(100, 10_000),
		Doc: "How many records of a partition the members of a share group may have acquired at once."},
	{Name: shareLock, Type: Int, Default: "30000", rule: between(1_000, 3_600_000),
		Doc: "A record that a member of a share group has acquired is delivered again after this long without an acknowledgement."},
	{Name: shareSession, Type: Int, Default: "45000", rule: between(1_000, 1_800_000),
		Doc: "A member of a share group is removed after this long without a heartbeat."},
}

// replicated lists settings that tools such as Cruise Control change while they move
// replicas.
var replicated = []Setting{
	{Name: "follower.replication.throttled.rate", Type: Long, Default: forever, rule: atLeast(0), Inert: noReplicas,
		Doc: "Bytes per second that throttled replicas fetch."},
	{Name: "leader.replication.throttled.rate", Type: Long, Default: forever, rule: atLeast(0), Inert: noReplicas,
		Doc: "Bytes per second that leaders of throttled replicas send."},
	{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Type: Long, Default: forever, rule: atLeast(0), Inert: noReplicas,
		Doc: "Bytes per second that move between the disks of a broker."},
}

// GroupSettings lists the settings of groups, by name. The list must not be changed.
func GroupSettings() []Setting { return groupSettings }

// GroupSetting returns the group setting of that name, or ErrInvalidConfig.
func GroupSetting(name string) (Setting, error) {
	if strings.HasPrefix(name, "streams.") {
		return Setting{}, fmt.Errorf("%w: %s is for a kind of groups that is not supported", ErrInvalidConfig, name)
	}
	return settingOf(groupSettings, name)
}

func settingOf(known []Setting, name string) (Setting, error) {
	names := make([]string, len(known))
	for i := range known {
		if names[i] = known[i].Name; names[i] == name {
			return known[i], nil
		}
	}
	hint := ""
	if near := configs.Nearest(name, names); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", near)
	}
	return Setting{}, fmt.Errorf("%w: there is no setting %q%s", ErrInvalidConfig, name, hint)
}

// BrokerSetting returns the broker setting of that name if clients can change it.
// Errors: ErrFixed; ErrInvalidConfig if there is no such setting.
func (b *Broker) BrokerSetting(name string) (Setting, error) {
	s, err := settingOf(b.Settings(), name)
	if err == nil && !s.Alterable() {
		return s, fmt.Errorf("%w: %s", ErrFixed, name)
	}
	return s, err
}

// Alterable reports whether clients can change the setting.
func (s *Setting) Alterable() bool { return s.rule.ok != nil }

// CheckBroker checks settings as AlterBroker does.
func (b *Broker) CheckBroker(values map[string]string) error { return check(values, b.BrokerSetting) }

// CheckGroup checks settings as AlterGroup does.
func CheckGroup(values map[string]string) error {
	if err := check(values, GroupSetting); err != nil {
		return err
	}
	if session, heartbeat := timeoutsOf(values, consumerSession, consumerHeartbeat); heartbeat >= session {
		return fmt.Errorf("%w: %s, %v, must be less than %s, %v", ErrInvalidConfig, consumerHeartbeat, heartbeat, consumerSession, session)
	}
	return checkShare(values)
}

func check(values map[string]string, setting func(string) (Setting, error)) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		s, err := setting(name)
		if err != nil {
			return err
		}
		if !s.rule.ok(values[name]) {
			return fmt.Errorf("%w: %s cannot be %q: it must be %s", ErrInvalidConfig, name, values[name], s.rule.text)
		}
	}
	return nil
}

// settings returns the settings that clients have changed, if this node can change them.
func (b *Broker) settings() (*settings.Settings, error) {
	c, err := b.catalogue()
	if err != nil {
		return nil, err
	}
	return c.Settings, nil
}

// ChangedSettings returns the settings that clients have changed, for reading, as far as
// this node knows them; nil if it knows none. They may be old.
func (b *Broker) ChangedSettings() *settings.Settings {
	if own := b.table.Load().shards[catalogueShard].own; own != nil {
		return own.Settings
	}
	if c := b.LastCopy(); c != nil {
		return c.Settings
	}
	return nil
}

// knownSettings is settings, or on a standby the settings of its copy.
func (b *Broker) knownSettings() (*settings.Settings, error) {
	if c := b.Copy(); c != nil && c.Settings != nil {
		return c.Settings, nil
	}
	return b.settings()
}

// AlterBroker changes the settings of the node of that number. With "" it changes the
// settings of all nodes, which a node's own override. Durable on return. Each owner
// of the shard uses them. change works as in AlterTopic.
//
// Errors: ErrFixed, ErrInvalidConfig, those of settings.Settings.Alter, and what
// change returns.
func (b *Broker) AlterBroker(ctx context.Context, number string, change func(values map[string]string) error) error {
	return b.alterSettings(ctx, settings.Resource{Kind: settings.Node, Name: number}, change, b.CheckBroker)
}

// AlterGroup changes the settings of a group, which need not exist; durable on
// return. change works as in AlterTopic. Errors: those of AlterBroker except
// ErrFixed.
func (b *Broker) AlterGroup(ctx context.Context, group string, change func(values map[string]string) error) error {
	return b.alterSettings(ctx, settings.Resource{Kind: settings.Group, Name: group}, change, CheckGroup)
}

func (b *Broker) alterSettings(ctx context.Context, r settings.Resource, change, check func(map[string]string) error) error {
	s, err := b.settings()
	if err != nil {
		return err
	}
	err = s.Alter(ctx, r, func(values map[string]string) error {
		if err := change(values); err != nil {
			return err
		}
		return check(values)
	})
	if err == nil {
		b.Tell(ctx) // a client may ask any of them next
	}
	return translate(err)
}

// BrokerValues returns what clients have set for the node of that number, or with ""
// for all nodes. The map must not be changed. This and the next two calls also work
// on a standby, from its copy.
func (b *Broker) BrokerValues(number string) (map[string]string, error) {
	return b.values(settings.Resource{Kind: settings.Node, Name: number})
}

// GroupValues returns what clients have set for a group. The map must not be changed.
func (b *Broker) GroupValues(group string) (map[string]string, error) {
	return b.values(settings.Resource{Kind: settings.Group, Name: group})
}

func (b *Broker) values(r settings.Resource) (map[string]string, error) {
	s, err := b.knownSettings()
	if err != nil {
		return nil, err
	}
	return s.Of(r), nil
}

// ConfiguredGroups lists the groups for which clients have set anything.
func (b *Broker) ConfiguredGroups() ([]string, error) {
	s, err := b.knownSettings()
	if err != nil {
		return nil, err
	}
	return s.Names(settings.Group), nil
}

// own returns what clients have set for this node.
func (b *Broker) own() map[string]string {
	find := b.settings
	if b.Several() {
		find = b.knownSettings // the node serves partitions without the catalogue
	}
	s, err := find()
	if err != nil {
		return nil
	}
	return s.Node(strconv.Itoa(int(b.o.Self.ID)))
}

// TopicDefaults returns the settings that clients have set for a node and that are
// defaults of topics, by the names of the topic settings. s is nil if they are not known.
func TopicDefaults(s *settings.Settings, number int32) map[string]string {
	if s == nil {
		return nil
	}
	return topicDefaults(s.Node(strconv.Itoa(int(number))))
}

func topicDefaults(node map[string]string) map[string]string {
	if len(node) == 0 {
		return nil
	}
	var defaults map[string]string
	for i := range topicSettings {
		if value, ok := node[topicSettings[i].Broker]; ok && topicSettings[i].Broker != "" {
			if defaults == nil {
				defaults = make(map[string]string)
			}
			defaults[topicSettings[i].Name] = value
		}
	}
	return defaults
}

// OwnTopic reports whether a topic is Weir's own. Settings for all topics do not
// apply to it, so that reports of gateways are always accepted and kept.
func OwnTopic(name string) bool { return strings.HasPrefix(name, "weir.") }

// withDefaults returns a topic with the defaults of the node added to its settings.
func (b *Broker) withDefaults(t Topic) Topic {
	if OwnTopic(t.Name) {
		return t
	}
	defaults := topicDefaults(b.own())
	if len(defaults) > 0 {
		maps.Copy(defaults, t.Configs)
		t.Configs = defaults
	}
	return t
}

// TopicValue returns the value of a setting for a topic.
func (b *Broker) TopicValue(t Topic, name string) string {
	if value, ok := t.Configs[name]; ok {
		return value
	}
	s, err := TopicSetting(name)
	if err != nil {
		return ""
	}
	if value, ok := b.own()[s.Broker]; ok && s.Broker != "" && !OwnTopic(t.Name) {
		return value
	}
	return s.Default
}

// AutoCreate reports whether a topic that does not exist is created when a request
// names it.
func (b *Broker) AutoCreate() bool {
	if value, ok := b.own()[autoCreate]; ok {
		return strings.EqualFold(value, "true")
	}
	return b.o.AutoCreate
}

// DefaultPartitions returns the number of partitions of a topic that is created
// without one.
func (b *Broker) DefaultPartitions() int32 {
	if n, err := strconv.ParseInt(b.own()[numPartitions], 10, 32); err == nil {
		return int32(n)
	}
	return b.o.Partitions
}

// GroupTimeouts returns a function that returns the timeouts that clients have set
// for a group, for group.Options. changed returns the settings, nil while they are not
// known.
func GroupTimeouts(changed func() *settings.Settings) func(group string, typ group.Type) (session, heartbeat time.Duration) {
	return func(name string, typ group.Type) (session, heartbeat time.Duration) {
		s := changed()
		if s == nil {
			return 0, 0
		}
		values := s.Of(settings.Resource{Kind: settings.Group, Name: name})
		switch {
		case len(values) == 0:
			return 0, 0
		case typ == group.Share:
			return timeoutsOf(values, shareSession, shareHeartbeat)
		}
		return timeoutsOf(values, consumerSession, consumerHeartbeat)
	}
}

// timeoutsOf returns the values of two settings of groups, or their defaults.
func timeoutsOf(values map[string]string, sessionName, heartbeatName string) (session, heartbeat time.Duration) {
	value := func(name string) time.Duration {
		s, _ := settingOf(groupSettings, name)
		ms, err := strconv.ParseInt(cmp.Or(values[name], s.Default), 10, 64)
		if err != nil || ms > math.MaxInt32 {
			return 0
		}
		return time.Duration(ms) * time.Millisecond
	}
	return value(sessionName), value(heartbeatName)
}
