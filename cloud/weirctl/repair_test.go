package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// openAll opens all shards of a cluster of three as nodes do.
func openAll(t *testing.T, b storage.Bucket) (all []*shard.Shard, close func()) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	topics := &machine.Topics{All: func() []state.Topic { return nil }, ByID: func(id weir.TopicID) (state.Topic, bool) { return state.Topic{ID: id}, true }}
	for id := range uint32(3) {
		s := shard.New(shard.Options{Log: quiet, Part: shard.PartOf(id, 3), Topics: topics})
		o := commitlog.Options{Bucket: b, Shard: id, Shards: 3, Node: "n", Info: []byte("{}"), Log: quiet}
		if s.Part != shard.Data {
			o.Beside = []string{fleet.AuthorityKey}
		}
		if err := s.Open(t.Context(), o); err != nil {
			t.Fatalf("open shard %d: %v", id, err)
		}
		all = append(all, s)
	}
	return all, func() {
		for _, s := range all {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestRepairOfShards: after a repair nodes can lead each shard of a cluster of several, and
// the catalogue alone has the checksum of the CA.
func TestRepairOfShards(t *testing.T) {
	for name, lost := range map[string]string{"cluster": identity.Key, "segment": "000[12]/segment/*/*1"} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			b, err := open.Open(t.Context(), "file:"+folder)
			if err != nil {
				t.Fatal(err)
			}
			defer storage.Close(b)
			if _, err := fleet.Authority(t.Context(), b, nil, time.Now()); err != nil {
				t.Fatal(err)
			}
			all, close := openAll(t, b)
			topic, err := all[0].Log.CreateTopic(t.Context(), "t", 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			log := all[weir.FirstMap(3)[weir.SliceOf(topic.ID, 0)]].Log
			if err := log.OpenTopic(t.Context(), topic, journal.Position{Epoch: 1, Slot: 1}); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			log.Append(commitlog.Append{Topic: topic.ID, Batch: recordtest.Batch("a")}, func(_ int64, err error) { done <- err })
			if err := errors.Join(<-done, log.Maintain(t.Context())); err != nil {
				t.Fatal(err)
			}
			close()
			files, err := filepath.Glob(filepath.Join(folder, lost))
			if err != nil || len(files) != 1 {
				t.Fatalf("%q, %v", files, err)
			}
			if err := os.Remove(files[0]); err != nil {
				t.Fatal(err)
			}

			var stdout, stderr strings.Builder
			if code := run([]string{"check", "file:" + folder, "--repair"}, nil, strings.NewReader(""), &stdout, &stderr); code != 0 {
				t.Fatalf("repair: %d, %s%s", code, stdout.String(), stderr.String())
			}
			_, close = openAll(t, b)
			close()
			if err := os.Remove(filepath.Join(folder, fleet.AuthorityKey)); err != nil {
				t.Fatal(err)
			}
			stdout.Reset()
			if code := run([]string{"check", "file:" + folder}, nil, strings.NewReader(""), &stdout, &stderr); code != 1 || strings.Count(stdout.String(), "the log has its checksum") != 1 {
				t.Errorf("check without the CA: %d, %s%s", code, stdout.String(), stderr.String())
			}
		})
	}
}
