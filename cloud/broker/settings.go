package broker

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/configs"
)

// SettingType is the type of a setting's value. The numbers are Kafka's (KIP-569).
type SettingType int8

// The types of settings.
const (
	Boolean SettingType = 1
	String  SettingType = 2
	Int     SettingType = 3 // 32 bits
	Long    SettingType = 5
	Double  SettingType = 6
	List    SettingType = 7 // words separated by commas
)

// Setting is one setting of topics, or of the broker.
type Setting struct {
	Name    string
	Type    SettingType
	Default string // of a topic setting; for a broker setting its value
	Doc     string

	// Broker is the name of Kafka's broker setting that gives the default of the topic
	// setting, "" if Kafka has none.
	Broker string

	// Inert says why the setting is stored but has no effect; "": it is enforced.
	// Kafka's clients and tools set such settings, and must be able to.
	Inert string

	rule rule
}

// rule checks the values of a setting.
type rule struct {
	text string // completes "must be"
	ok   func(value string) bool
}

func oneOf(values ...string) rule {
	return rule{strings.Join(values, " or "), func(v string) bool { return slices.Contains(values, v) }}
}

func between(least, most int64) rule {
	text := fmt.Sprintf("a whole number from %d to %d", least, most)
	if most == math.MaxInt64 {
		text = fmt.Sprintf("a whole number of at least %d", least)
	}
	return rule{text, func(v string) bool {
		n, err := strconv.ParseInt(v, 10, 64)
		return err == nil && n >= least && n <= most
	}}
}

func atLeast(least int64) rule { return between(least, math.MaxInt64) }

var (
	someList  = rule{"a list of at most 16,384 bytes", func(v string) bool { return len(v) <= 16<<10 }}
	trueFalse = rule{"true or false", func(v string) bool { return strings.EqualFold(v, "true") || strings.EqualFold(v, "false") }}
	fraction  = rule{"a number from 0 to 1", func(v string) bool {
		ratio, err := strconv.ParseFloat(v, 64)
		return err == nil && ratio >= 0 && ratio <= 1
	}}
	policies = rule{"delete, compact, or both with a comma between them", func(v string) bool {
		return !slices.ContainsFunc(Words(v), func(p string) bool { return p != "delete" && p != "compact" }) && len(Words(v)) > 0
	}}
)

// Words splits the value of a setting of type List.
func Words(value string) []string {
	var words []string
	for w := range strings.SplitSeq(value, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// Why some settings of Kafka have no effect.
const (
	noFiles    = "records lie in objects of the bucket, whose size and age are for the log's upkeep to choose."
	noFlush    = "a record is durable in the bucket before it is acknowledged."
	noReplicas = "the bucket keeps the copies; a partition has one owner, and every acknowledged record is durable."
	noTiers    = "all records are in the bucket already."
	oneLevel   = "each codec has one level here."
)

const forever = "9223372036854775807" // ms

// topicSettings lists the settings of topics, by name.
var topicSettings = []Setting{
	{Name: "cleanup.policy", Type: List, Default: "delete", Broker: "log.cleanup.policy", rule: policies,
		Doc: "What becomes of old records: delete lets them go by retention.ms and retention.bytes, compact keeps the last one of each key."},
	{Name: "compression.gzip.level", Type: Int, Default: "-1", Broker: "compression.gzip.level", rule: between(-1, 9), Inert: oneLevel,
		Doc: "Level of gzip if compression.type is gzip."},
	{Name: "compression.lz4.level", Type: Int, Default: "9", Broker: "compression.lz4.level", rule: between(1, 17), Inert: oneLevel,
		Doc: "Level of lz4 if compression.type is lz4."},
	{Name: compressionType, Type: String, Default: "producer", Broker: "compression.type", rule: oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
		Doc: "How record batches are compressed when they are stored; producer leaves them as they come. Batches of transactions always stay as they come."},
	{Name: "compression.zstd.level", Type: Int, Default: "3", Broker: "compression.zstd.level", rule: between(-131072, 22), Inert: oneLevel,
		Doc: "Level of zstd if compression.type is zstd."},
	{Name: "delete.retention.ms", Type: Long, Default: "86400000", Broker: "log.cleaner.delete.retention.ms", rule: atLeast(0),
		Doc: "How long compaction leaves a tombstone, so that readers who are behind see it."},
	{Name: share.DeadLetterEnable, Type: Boolean, Default: "false", rule: trueFalse,
		Doc: "Whether share groups may use the topic for dead letters."},
	{Name: "file.delete.delay.ms", Type: Long, Default: "60000", Broker: "log.segment.delete.delay.ms", rule: atLeast(0), Inert: noFiles,
		Doc: "How long a file that is not needed any more stays."},
	{Name: "flush.messages", Type: Long, Default: forever, Broker: "log.flush.interval.messages", rule: atLeast(1), Inert: noFlush,
		Doc: "After how many records they are flushed to disk."},
	{Name: "flush.ms", Type: Long, Default: forever, Broker: "log.flush.interval.ms", rule: atLeast(0), Inert: noFlush,
		Doc: "After how long records are flushed to disk."},
	{Name: "follower.replication.throttled.replicas", Type: List, rule: someList, Inert: noReplicas,
		Doc: "Replicas whose replication is slowed down at the follower."},
	{Name: "index.interval.bytes", Type: Int, Default: "4096", Broker: "log.index.interval.bytes", rule: between(0, math.MaxInt32), Inert: noFiles,
		Doc: "How many bytes of records an entry of the index stands for."},
	{Name: "leader.replication.throttled.replicas", Type: List, rule: someList, Inert: noReplicas,
		Doc: "Replicas whose replication is slowed down at the leader."},
	{Name: "local.retention.bytes", Type: Long, Default: "-2", Broker: "log.local.retention.bytes", rule: atLeast(-2), Inert: noTiers,
		Doc: "How much stays on local disks with tiered storage."},
	{Name: "local.retention.ms", Type: Long, Default: "-2", Broker: "log.local.retention.ms", rule: atLeast(-2), Inert: noTiers,
		Doc: "How long records stay on local disks with tiered storage."},
	{Name: "max.compaction.lag.ms", Type: Long, Default: forever, Broker: "log.cleaner.max.compaction.lag.ms", rule: atLeast(1),
		Inert: "compaction goes by min.cleanable.dirty.ratio alone.",
		Doc:   "How long a record may stay without being considered for compaction."},
	{Name: maxMessageBytes, Type: Int, Default: strconv.Itoa(DefaultMaxMessageBytes), Broker: "message.max.bytes", rule: between(0, maxMaxMessageBytes),
		Doc: "The largest record batch that the topic takes, as it comes and as it is stored."},
	{Name: timestampAfter, Type: Long, Default: forever, Broker: "log.message.timestamp.after.max.ms", rule: atLeast(0),
		Doc: "How far a record's timestamp may lie in the future if message.timestamp.type is CreateTime. Records of gateways are taken whatever their clocks say."},
	{Name: timestampBefore, Type: Long, Default: forever, Broker: "log.message.timestamp.before.max.ms", rule: atLeast(0),
		Doc: "How far a record's timestamp may lie in the past if message.timestamp.type is CreateTime. Records of gateways are taken whatever their clocks say."},
	{Name: timestampType, Type: String, Default: "CreateTime", Broker: "log.message.timestamp.type", rule: oneOf("CreateTime", logAppendTime),
		Doc: "Whose time a record bears: the producer's, or that of the append."},
	{Name: "min.cleanable.dirty.ratio", Type: Double, Default: "0.5", Broker: "log.cleaner.min.cleanable.ratio", rule: fraction,
		Doc: "How much of a compacted partition must be new before it is compacted again."},
	{Name: "min.compaction.lag.ms", Type: Long, Default: "0", Broker: "log.cleaner.min.compaction.lag.ms", rule: atLeast(0),
		Inert: "compaction may remove a record as soon as there is a newer one with its key.",
		Doc:   "How long a record stays safe from compaction."},
	{Name: "min.insync.replicas", Type: Int, Default: "1", Broker: "min.insync.replicas", rule: between(1, math.MaxInt32), Inert: noReplicas,
		Doc: "How many replicas must have a record before acks=all is answered."},
	{Name: "preallocate", Type: Boolean, Default: "false", Broker: "log.preallocate", rule: trueFalse, Inert: noFiles,
		Doc: "Whether files get their full size when they are made."},
	{Name: "remote.log.copy.disable", Type: Boolean, Default: "false", rule: trueFalse, Inert: noTiers,
		Doc: "Whether nothing more is copied to tiered storage."},
	{Name: "remote.log.delete.on.disable", Type: Boolean, Default: "false", rule: trueFalse, Inert: noTiers,
		Doc: "Whether what lies in tiered storage is deleted when that is switched off."},
	{Name: "remote.storage.enable", Type: Boolean, Default: "false", rule: trueFalse, Inert: noTiers,
		Doc: "Whether tiered storage is used."},
	{Name: "retention.bytes", Type: Long, Default: "-1", Broker: "log.retention.bytes", rule: atLeast(-1),
		Doc: "How many bytes a partition keeps if cleanup.policy has delete in it; -1: no limit."},
	{Name: "retention.ms", Type: Long, Default: "-1", Broker: "log.retention.ms", rule: atLeast(-1),
		Doc: "How long records are kept if cleanup.policy has delete in it; -1, unlike Kafka's default: forever."},
	{Name: "segment.bytes", Type: Int, Default: "1073741824", Broker: "log.segment.bytes", rule: between(14, math.MaxInt32), Inert: noFiles,
		Doc: "How large a file of a partition becomes."},
	{Name: "segment.index.bytes", Type: Int, Default: "10485760", Broker: "log.index.size.max.bytes", rule: between(4, math.MaxInt32), Inert: noFiles,
		Doc: "How large an index becomes."},
	{Name: "segment.jitter.ms", Type: Long, Default: "0", Broker: "log.roll.jitter.ms", rule: atLeast(0), Inert: noFiles,
		Doc: "How much the time of segment.ms varies."},
	{Name: "segment.ms", Type: Long, Default: "604800000", Broker: "log.roll.ms", rule: atLeast(1), Inert: noFiles,
		Doc: "How long a file of a partition is written to."},
	{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false", Broker: "unclean.leader.election.enable", rule: trueFalse, Inert: noReplicas,
		Doc: "Whether a replica that has not everything may become leader."},
}

// TopicSettings lists the settings of topics, by name. The list must not be changed.
func TopicSettings() []Setting { return topicSettings }

// TopicSetting returns the topic setting of that name. If there is none, it returns
// ErrInvalidConfig with the nearest name.
func TopicSetting(name string) (Setting, error) {
	i, ok := slices.BinarySearchFunc(topicSettings, name, func(s Setting, name string) int { return cmp.Compare(s.Name, name) })
	if ok {
		return topicSettings[i], nil
	}
	known := make([]string, len(topicSettings))
	for i := range topicSettings {
		known[i] = topicSettings[i].Name
	}
	hint := ""
	if near := configs.Nearest(name, known); near != "" {
		hint = fmt.Sprintf(" (did you mean %s?)", near)
	}
	return Setting{}, fmt.Errorf("%w: there is no setting %q%s", ErrInvalidConfig, name, hint)
}

// CheckConfigs checks topic settings as CreateTopic and AlterTopic do.
func CheckConfigs(configs map[string]string) error {
	for name, value := range configs {
		s, err := TopicSetting(name)
		if err != nil {
			return err
		}
		if !s.rule.ok(value) {
			return fmt.Errorf("%w: %s cannot be %q: it must be %s", ErrInvalidConfig, name, value, s.rule.text)
		}
	}
	return nil
}

// Settings lists the settings of this broker under Kafka's names, by name, with the
// values from its start. Clients can change those that are Alterable.
func (b *Broker) Settings() []Setting {
	all := []Setting{
		{Name: autoCreate, Type: Boolean, Default: strconv.FormatBool(b.o.AutoCreate), rule: trueFalse, Doc: "Whether a topic is created because somebody names it."},
		{Name: "broker.id", Type: Int, Default: strconv.Itoa(int(b.o.Self.ID)), Doc: "The number of this node."},
		{Name: "default.replication.factor", Type: Int, Default: "1", Doc: "What clients are told of the number of replicas: the bucket keeps the copies."},
		{Name: "delete.topic.enable", Type: Boolean, Default: "true", Doc: "Whether topics can be deleted."},
		{Name: "inter.broker.protocol.version", Type: String, Default: "3.9-IV0", Doc: "The version of Kafka whose operations tools can expect here."},
		{Name: "node.id", Type: Int, Default: strconv.Itoa(int(b.o.Self.ID)), Doc: "The number of this node."},
		{Name: numPartitions, Type: Int, Default: strconv.Itoa(int(b.o.Partitions)), rule: between(1, MaxPartitions), Doc: "Partitions of a topic that is created without saying how many."},
		{Name: "offsets.topic.replication.factor", Type: Int, Default: "1", Doc: "What clients are told of the copies of committed offsets: the bucket keeps them."},
	}
	all = append(all, replicated...)
	all = append(all, Setting{Name: "sasl.kerberos.min.time.before.relogin", Type: Long, Default: "60000", rule: atLeast(0), Inert: "nobody logs in by Kerberos here.",
		Doc: "How long a login by Kerberos stays before it is renewed, in milliseconds."})
	for _, s := range topicSettings {
		if s.Broker != "" {
			s.Name = s.Broker
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(x, y Setting) int { return cmp.Compare(x.Name, y.Name) })
	return all
}
