package hdfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/weirmq/weir/storage"
)

// Traits returns the Warnings.
func (b *Bucket) Traits() storage.Traits { return storage.Traits{Warnings: b.Warnings} }

// Warnings returns a sentence for every setting of the server that can lose an object
// after its Create returned, or hide it for a while. If the server does not show a
// setting, that is a warning too.
func (b *Bucket) Warnings(ctx context.Context) []string {
	var all []string
	for _, check := range []struct {
		what string
		warn func(context.Context) ([]string, error)
	}{
		{"how many copies of an object there are", b.warnCopies},
		{"whether the datanodes write through to their disks", b.warnSync},
		{"how the namenode keeps its log", b.warnLog},
		{"how the namenode is set up", b.warnSettings},
	} {
		warnings, err := check.warn(ctx)
		if err != nil {
			warnings = []string{fmt.Sprintf("it is not known %s: %v", check.what, err)}
		}
		all = append(all, warnings...)
	}
	return all
}

// warnCopies creates a file and looks at it: the settings of the datanode that takes
// it, and of the folder, decide how many copies there are.
func (b *Bucket) warnCopies(ctx context.Context) (all []string, err error) {
	temp := b.tempName()
	defer b.drop(ctx, temp)
	if err := b.write(ctx, temp, nil); err != nil {
		return nil, err
	}
	file, err := b.status(ctx, temp)
	if err != nil {
		return nil, err
	}
	var policy struct{ BlockStoragePolicy struct{ Name string } }
	if err := b.client.call(ctx, http.MethodGet, temp, "GETSTORAGEPOLICY", nil, &policy); err != nil {
		return nil, err
	}
	if policy.BlockStoragePolicy.Name == "LAZY_PERSIST" {
		all = append(all, "the folder has the storage policy LAZY_PERSIST, so new objects are only in memory, and a crash loses them")
	}
	if file.ECPolicy != "" {
		return all, nil
	}
	var state struct{ NumLiveDataNodes int }
	if err := b.client.bean(ctx, b.client.node(), "FSNamesystemState", &state); err != nil {
		return nil, err
	}
	switch {
	case file.Replication < 2:
		all = append(all, "there is one copy of each object, so a lost disk loses it: set dfs.replication on the datanodes")
	case state.NumLiveDataNodes < 2:
		all = append(all, fmt.Sprintf("objects should have %d copies, but only one datanode is alive, so a lost disk loses them", file.Replication))
	}
	return all, nil
}

// warnSync checks whether the namenode passes on the demand to sync each block before
// it is acknowledged. An old namenode drops options that it does not know.
func (b *Bucket) warnSync(ctx context.Context) ([]string, error) {
	target, err := b.createTarget(ctx, b.tempName())
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if strings.Contains(u.Query().Get("createflag"), "SYNC_BLOCK") {
		return nil, nil
	}
	value, err := b.client.setting(ctx, u.Host, "dfs.datanode.synconclose")
	if err != nil || value == "true" {
		return nil, err
	}
	return []string{"the server does not support the flag SYNC_BLOCK, so a power cut loses new objects: set dfs.datanode.synconclose=true on the datanodes"}, nil
}

// warnLog counts the places where the namenode stores its log.
func (b *Bucket) warnLog(ctx context.Context) ([]string, error) {
	var info struct{ NameJournalStatus string }
	if err := b.client.bean(ctx, b.client.node(), "NameNodeInfo", &info); err != nil {
		return nil, err
	}
	var journals []struct{ Manager, Disabled string }
	if err := json.Unmarshal([]byte(info.NameJournalStatus), &journals); err != nil {
		return nil, fmt.Errorf("read NameJournalStatus: %w", err)
	}
	places := 0
	for _, journal := range journals {
		if journal.Disabled != "true" {
			places++
		}
		if strings.HasPrefix(journal.Manager, "QJM") {
			return nil, nil // a quorum of its own
		}
	}
	if places > 1 {
		return nil, nil
	}
	return []string{"the namenode keeps its log in one place, so a lost disk loses all names: give dfs.namenode.name.dir a second one, or use journal nodes"}, nil
}

// warnSettings checks for settings of the namenode that break its promises.
func (b *Bucket) warnSettings(ctx context.Context) (all []string, err error) {
	for _, s := range []struct {
		name    string
		bad     func(value string) bool
		warning string
	}{
		{"dfs.namenode.edits.noeditlogchannelflush", isTrue,
			"the namenode does not sync its log, so a power cut loses new objects"},
		{"dfs.ha.allow.stale.reads", isTrue,
			"a standby namenode answers reads, so new objects can be missing from reads and listings"},
		{"dfs.ha.fencing.methods", fencesNothing,
			"a namenode that was replaced is not fenced, so for a while new objects can be missing from reads and listings"},
	} {
		value, err := b.client.setting(ctx, b.client.node(), s.name)
		if err != nil {
			return nil, err
		}
		if s.bad(value) {
			all = append(all, fmt.Sprintf("%s (%s=%s)", s.warning, s.name, strings.TrimSpace(value)))
		}
	}
	return all, nil
}

func isTrue(value string) bool { return value == "true" }

func fencesNothing(value string) bool {
	value = strings.TrimSpace(value)
	return value == "shell(/bin/true)" || value == "shell(true)"
}

// setting reads a setting of a server; "" if it has no value.
func (c *client) setting(ctx context.Context, node, name string) (string, error) {
	var answer struct{ Property struct{ Value string } }
	err := c.page(ctx, node, "/conf", url.Values{"name": {name}}, &answer)
	var e *serverError
	if errors.As(err, &e) && e.status == http.StatusNotFound {
		return "", nil
	}
	return answer.Property.Value, err
}

// node is the namenode that answered last.
func (c *client) node() string { return c.nodes[c.active.Load()] }
