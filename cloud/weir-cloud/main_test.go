package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/record"
)

// TestSampleConfig: the sample beside the flags' documentation is one that
// works.
func TestSampleConfig(t *testing.T) {
	s, err := parse([]string{"--config", "../../configs/weir-cloud.yaml"}, nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.data != "/var/lib/weir-cloud" {
		t.Errorf("data is %q", s.data)
	}
}

// TestDurations: every time takes days and weeks.
func TestDurations(t *testing.T) {
	s, err := parse([]string{"--takeover", "2d", "--linger", "1d", "--checkpoint-interval", "1w"}, nil, io.Discard)
	if err != nil || s.takeover != 48*time.Hour || s.linger != 24*time.Hour || s.upkeep.Age != 7*24*time.Hour {
		t.Errorf("%v, %v, %v: %v", s.takeover, s.linger, s.upkeep.Age, err)
	}
}

// TestShardsFlag: --shards is a number, or auto.
func TestShardsFlag(t *testing.T) {
	for text, want := range map[string]settings{"8": {shards: 8}, "auto": {autoShards: true}, "": {}} {
		args := []string{"--shards", text}
		if text == "" {
			args = nil
		}
		if s, err := parse(args, nil, io.Discard); err != nil || s.shards != want.shards || s.autoShards != want.autoShards || (s.autoTime() > 0) != want.autoShards {
			t.Errorf("%q: %d, %v, %v", text, s.shards, s.autoShards, err)
		}
	}
	if s, err := parse(nil, []string{"WEIR_CLOUD_SHARDS=auto"}, io.Discard); err != nil || !s.autoShards {
		t.Errorf("in a variable: %v, %v", s.autoShards, err)
	}
}

// TestDoorFlags: only a node with the role door alone needs no secret, or has a token.
func TestDoorFlags(t *testing.T) {
	remote := []string{"--bucket", "s3://weir?endpoint=http://127.0.0.1:9000"}
	for _, c := range []struct {
		args   []string
		legal  bool
		noKeys bool
	}{
		{append(remote, "--roles", "door"), true, true},
		{append(remote, "--roles", "door", "--join-file", "token"), true, true},
		{append(remote, "--roles", "door", "--secret-file", "secret"), true, false},
		{append(remote, "--roles", "door", "--secret-file", "secret", "--join-file", "token"), false, false},
		{append(remote, "--roles", "door,log"), false, false},
		{append(remote, "--roles", "log", "--join-file", "token"), false, false},
		{remote, false, false},
		{[]string{"--roles", "door"}, true, false},
		{[]string{"--roles", "door", "--join-file", "token"}, true, true},
		{nil, true, false},
	} {
		s, err := parse(c.args, nil, io.Discard)
		if (err == nil) != c.legal || err == nil && s.noKeys() != c.noKeys {
			t.Errorf("%q: %v, %v", c.args, s.noKeys(), err)
		}
	}
}

// TestRefuses: a node that finds something missing or damaged in its bucket ends with 78,
// names it, says what to do, and deletes nothing.
func TestRefuses(t *testing.T) {
	for name, glob := range map[string]string{
		"authority":  "authority",
		"cluster":    "cluster",
		"claim":      "0000/epoch/*1",
		"checkpoint": "0000/checkpoint/*",
		"segment":    "0000/segment/*/*",
	} {
		for _, damage := range []string{"missing", "damaged"} {
			if name == "segment" && damage == "damaged" {
				continue // found when it is read
			}
			t.Run(name+" "+damage, func(t *testing.T) {
				folder := bucketOfANode(t)
				files, err := filepath.Glob(filepath.Join(folder, glob))
				if err != nil || len(files) != 1 {
					t.Fatalf("%q, %v", files, err)
				}
				if err := os.Remove(files[0]); err != nil {
					t.Fatal(err)
				}
				if damage == "damaged" {
					if err := os.WriteFile(files[0], []byte("something else"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				before := filesIn(t, folder)
				var said bytes.Buffer
				code := run([]string{"--data", t.TempDir(), "--node-id", "n", "--bucket", "file:" + folder, "--sync", "off", "--kafka", "off", "--http", "off"}, nil, io.Discard, &said)
				named, _, _ := strings.Cut(glob, "*")
				if code != exitRefused || !strings.Contains(said.String(), "weirctl check --repair") || !strings.Contains(said.String(), named) {
					t.Errorf("exit code %d, said %s", code, said.String())
				}
				after := filesIn(t, folder)
				for file := range before {
					if !after[file] && !strings.Contains(file, ".tmp") {
						t.Errorf("%s is gone", file)
					}
				}
			})
		}
	}
}

// bucketOfANode makes a bucket that a node has had: a CA, a checkpoint, a segment.
func bucketOfANode(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	b, err := open.Open(t.Context(), "file:"+folder)
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
	done := make(chan error, 1)
	l.Append(commitlog.Append{Topic: topic.ID, Batch: oneRecord(t)}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func oneRecord(t *testing.T) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Timestamp: 1, Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func filesIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all[path] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestExitCodes: settings that are wrong end with the code after which the unit is not
// started again, and what may pass with one after which it is.
func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	off := []string{"--sync", "off", "--kafka", "off", "--http", "off"}
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--kafak", "x"}, exitRefused},
		{[]string{"--partitions", "0"}, exitRefused},
		{[]string{"--shards", "2000"}, exitRefused},
		{[]string{"--shards", "many"}, exitRefused},
		{[]string{"--shards", "auto", "--peer", "off"}, exitRefused},
		{append(off, "--data", file), 1},
		{append(off, "--data", t.TempDir(), "--shards", "2", "--peer", "off"), exitRefused},
		{[]string{"--version"}, 0},
	} {
		var said bytes.Buffer
		if code := run(c.args, nil, io.Discard, &said); code != c.code {
			t.Errorf("%v: exit code %d, want %d\n%s", c.args, code, c.code, said.String())
		}
	}
}
