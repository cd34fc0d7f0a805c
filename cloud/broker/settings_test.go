package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/weir"
)

func TestCheckConfigs(t *testing.T) {
	for _, c := range []struct {
		name, value string
		says        string // "": it can be
	}{
		{"retention.ms", "-1", ""}, {"retention.ms", "-2", "a whole number of at least -1"}, {"retention.ms", "1d", `cannot be "1d"`},
		{"cleanup.policy", "compact", ""}, {"cleanup.policy", "delete, compact", ""}, {"cleanup.policy", "none", "delete, compact, or both"}, {"cleanup.policy", "", "both"}, {"cleanup.policy", ",", "both"},
		{"min.insync.replicas", "2", ""}, {"min.insync.replicas", "0", "from 1 to 2147483647"},
		{"compression.type", "zstd", ""}, {"compression.type", "none", "uncompressed"},
		{"max.message.bytes", "", "a whole number from 0 to 12000000"}, {"max.message.bytes", "12000001", "12000000"},
		{"min.cleanable.dirty.ratio", "0.3", ""}, {"min.cleanable.dirty.ratio", "1.1", "from 0 to 1"}, {"min.cleanable.dirty.ratio", "NaN", "from 0 to 1"},
		{"message.timestamp.type", "LogAppendTime", ""}, {"message.timestamp.type", "logappendtime", "CreateTime or LogAppendTime"},
		{"segment.bytes", "1048576", ""}, {"segment.ms", "0", "at least 1"}, {"unclean.leader.election.enable", "maybe", "true or false"},
		{"flush.messages", "1", ""}, {"leader.replication.throttled.replicas", "0:1,1:2", ""},
		{"retention.msec", "1", `there is no setting "retention.msec" (did you mean retention.ms?)`}, {"nonsense", "1", `"nonsense"`},
	} {
		err := CheckConfigs(map[string]string{c.name: c.value})
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, ErrInvalidConfig) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s=%q: %v", c.name, c.value, err)
		}
	}
}

// TestSettingsTable checks what the tables promise.
func TestSettingsTable(t *testing.T) {
	byName := func(a, b Setting) int { return cmp.Compare(a.Name, b.Name) }
	b := newBroker(Options{AutoCreate: true})
	for what, all := range map[string][]Setting{"topic": TopicSettings(), "broker": b.Settings()} {
		if !slices.IsSortedFunc(all, byName) || len(slices.CompactFunc(slices.Clone(all), func(a, b Setting) bool { return a.Name == b.Name })) != len(all) {
			t.Errorf("%s settings are not in order, or twice", what)
		}
		for _, s := range all {
			if s.Type == 0 || !strings.HasSuffix(s.Doc, ".") {
				t.Errorf("%s: type %d, %q", s.Name, s.Type, s.Doc)
			}
		}
	}
	for _, s := range TopicSettings() {
		if !s.rule.ok(s.Default) {
			t.Errorf("%s cannot have its default %q", s.Name, s.Default)
		}
		if got, err := TopicSetting(s.Name); err != nil || got.Name != s.Name {
			t.Errorf("%s: %v, %v", s.Name, got.Name, err)
		}
	}
	values := make(map[string]string)
	for _, s := range b.Settings() {
		values[s.Name] = s.Default
	}
	for name, want := range map[string]string{"node.id": "1", "num.partitions": "4", "auto.create.topics.enable": "true", "log.retention.ms": "-1", "message.max.bytes": "1048588"} {
		if values[name] != want {
			t.Errorf("broker's %s is %q, want %q", name, values[name], want)
		}
	}
}

func TestAlterTopic(t *testing.T) {
	ctx := t.Context()
	b := newBroker(Options{})
	lead(t, b, mem.New())
	topic, err := b.CreateTopic(ctx, "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name, value string) func(map[string]string) error {
		return func(configs map[string]string) error {
			configs[name] = value
			return nil
		}
	}
	stop := errors.New("stop")
	for _, c := range []struct {
		id     weir.TopicID
		change func(map[string]string) error
		want   error
	}{
		{topic.ID, set("retention.ms", "5"), nil},
		{topic.ID, set("retention.ms", "five"), ErrInvalidConfig},
		{topic.ID, set("retention", "5"), ErrInvalidConfig},
		{topic.ID, func(configs map[string]string) error { clear(configs); return stop }, stop},
		{weir.TopicID{1}, set("retention.ms", "5"), ErrUnknownTopic},
	} {
		if err := b.AlterTopic(ctx, c.id, c.change); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
	if now, _ := b.Topic("t"); fmt.Sprint(now.Configs) != "map[retention.ms:5]" {
		t.Errorf("settings are %v", now.Configs)
	}

	// Concurrent changes of different settings do not undo each other.
	var wg sync.WaitGroup
	names := []string{"segment.ms", "flush.ms", "delete.retention.ms", "retention.bytes", "file.delete.delay.ms", "segment.jitter.ms"}
	for _, name := range names {
		wg.Go(func() {
			if err := b.AlterTopic(ctx, topic.ID, set(name, "7")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, _ := b.Topic("t"); len(now.Configs) != 1+len(names) {
		t.Errorf("settings are %v", now.Configs)
	}
}

// TestShareSettings: what a share group's settings say is what its manager gets.
func TestShareSettings(t *testing.T) {
	s := settings.New()
	s.Serve(machinetest.New(s))
	of := ShareSettings(func() *settings.Settings { return s }, 7)
	if got := of("g"); got != (share.Settings{}) {
		t.Errorf("%+v", got)
	}
	for value, want := range map[string]share.Settings{
		"latest": {}, "earliest": {Earliest: true}, "by_duration:PT1H30M": {Since: 90 * time.Minute}, "by_duration:P2DT5S": {Since: 48*time.Hour + 5*time.Second},
	} {
		values := map[string]string{shareReset: value, shareIsolation: "read_committed", shareLock: "2000", shareDeliveries: "3", shareLocks: "100", shareDeadLetters: "dlq.t", shareCopyDead: "true"}
		if err := CheckGroup(values); err != nil {
			t.Error(err)
		}
		r := settings.Resource{Kind: settings.Group, Name: "g"}
		if err := s.Alter(t.Context(), r, func(old map[string]string) error { maps.Copy(old, values); return nil }); err != nil {
			t.Fatal(err)
		}
		want.Committed, want.Lock, want.Deliveries, want.Locks, want.DeadLetters, want.CopyDead = true, 2*time.Second, 3, 100, "dlq.t", true
		if got := of("g"); got != want {
			t.Errorf("%s: %+v, want %+v", value, got, want)
		}
	}
	node := settings.Resource{Kind: settings.Node, Name: "7"}
	if err := s.Alter(t.Context(), node, func(old map[string]string) error { old["message.max.bytes"] = "2000"; return nil }); err != nil {
		t.Fatal(err)
	}
	if got := of("g").BatchBytes; got != 2000 {
		t.Errorf("a batch may have %d bytes", got)
	}
	for _, bad := range []string{"", "never", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:PT0S", "by_duration:-PT1S", "by_duration:P99999999999D"} {
		if err := CheckGroup(map[string]string{shareReset: bad}); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"t", "xdlq.t", "dlq./", "dlq." + strings.Repeat("x", 246)} {
		if err := CheckGroup(map[string]string{shareDeadLetters: bad}); !errors.Is(err, ErrInvalidConfig) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := CheckGroup(map[string]string{shareDeadLetters: ""}); err != nil {
		t.Error(err)
	}
}

// TestSettingsAreTold: a change of settings is answered when the other nodes know it, which
// a client may ask next.
func TestSettingsAreTold(t *testing.T) {
	b := threeShards(t, "a")
	told := 0
	b.o.Told = func(_ context.Context, at journal.Position) {
		if told++; at == (journal.Position{}) {
			t.Error("nobody is told what has changed")
		}
	}
	leadShard(t, b, mem.New(), 0, topicsOf(b))
	set := func(values map[string]string) error { values["num.partitions"] = "5"; return nil }
	if err := b.AlterBroker(t.Context(), "", set); err != nil {
		t.Fatal(err)
	}
	if err := b.AlterGroup(t.Context(), "g", func(values map[string]string) error {
		values["consumer.session.timeout.ms"] = "50000"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if told != 2 {
		t.Errorf("others were told %d times", told)
	}
	if err := b.AlterGroup(t.Context(), "g", func(map[string]string) error { return errors.New("no") }); err == nil || told != 2 {
		t.Errorf("a change that was refused: %v, told %d times", err, told)
	}
}
