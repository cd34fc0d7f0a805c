package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// lived makes a bucket in a folder that a node has had: a CA, a topic, records in a
// segment and in slots.
func lived(t *testing.T) (url, folder string) {
	t.Helper()
	folder = t.TempDir()
	url = "file:" + folder
	b, err := open.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close(b)
	if _, err := fleet.Authority(t.Context(), b, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	l, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: b, Node: "n", Info: []byte("{}"), Beside: []string{fleet.AuthorityKey}})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := l.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		rb := record.NewBuilder(record.None)
		if err := rb.Append(&record.Record{Timestamp: 1, Value: []byte("v")}); err != nil {
			t.Fatal(err)
		}
		batch, err := rb.Build()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		l.Append(commitlog.Append{Topic: topic.ID, Batch: batch}, func(_ int64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := l.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return url, folder
}

// TestCheckTransactions: in a cluster of several shards, check finds a transaction that
// none of them will ever end.
func TestCheckTransactions(t *testing.T) {
	b := mem.New()
	if _, err := fleet.Authority(t.Context(), b, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	var logs []*commitlog.Log
	for shard := range uint32(3) {
		l, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: b, Shard: shard, Shards: 3, Node: "n", Info: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	topic, err := logs[0].CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := logs[weir.FirstMap(3)[weir.SliceOf(topic.ID, 0)]]
	if err := l.OpenTopic(t.Context(), topic, journal.Position{Epoch: 1, Slot: 1}); err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	if r, err := examine(t.Context(), b, &told); err != nil || len(r.Problems) > 0 {
		t.Fatalf("%v, %v", r.Problems, err)
	}
	done := make(chan error, 1)
	l.Append(commitlog.Append{Topic: topic.ID, Batch: recordtest.Transactional(1, 0, 0, "x")}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if r, err := examine(t.Context(), b, &told); err != nil || len(r.Problems) != 1 || !strings.Contains(told.String(), "the transaction of producer 1") {
		t.Errorf("%v, %v, told %q", r.Problems, err, told.String())
	}
	for _, l := range logs {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckRepair: check finds what is missing and ends with 1; --repair goes on without
// it and says so; then check finds nothing.
func TestCheckRepair(t *testing.T) {
	for name, test := range map[string]struct {
		glob string
		told string
	}{
		"authority":  {"authority", "every gateway must join again"},
		"cluster":    {"cluster", "made again as the log knows it"},
		"checkpoint": {"0000/checkpoint/*", "recovered."},
		"segment":    {"0000/segment/*/*1", "offsets 0 to 0 of partition 0 of topic t are given up"},
		"claim":      {"0000/epoch/*1", "0000/epoch/"},
	} {
		t.Run(name, func(t *testing.T) {
			url, folder := lived(t)
			ctl := func(args ...string) (code int, out string) {
				var stdout, stderr bytes.Buffer
				code = run(args, nil, strings.NewReader(""), &stdout, &stderr)
				return code, stdout.String() + stderr.String()
			}
			if code, out := ctl("check", url); code != 0 {
				t.Fatalf("check of a sound bucket: %d, %s", code, out)
			}
			if code, out := ctl("check", url, "--repair"); code != 0 || !strings.Contains(out, "nothing to repair") {
				t.Fatalf("repair of a sound bucket: %d, %s", code, out)
			}
			files, err := filepath.Glob(filepath.Join(folder, test.glob))
			if err != nil || len(files) != 1 {
				t.Fatalf("%q, %v", files, err)
			}
			if err := os.Remove(files[0]); err != nil {
				t.Fatal(err)
			}
			if code, out := ctl("check", url); code != 1 || !strings.Contains(out, "missing") && !strings.Contains(out, "gone") {
				t.Errorf("check: %d, %s", code, out)
			}
			code, out := ctl("check", url, "--repair", "-o", "json")
			var answer repaired
			if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 {
				t.Fatalf("repair: %d, %v, %s", code, err, out)
			}
			if len(answer.Found) == 0 || !strings.Contains(strings.Join(answer.Told, "\n"), test.told) {
				t.Errorf("found %q, told %q", answer.Found, answer.Told)
			}
			if code, out := ctl("check", url); code != 0 {
				t.Errorf("check after the repair: %d, %s", code, out)
			}
		})
	}
}
