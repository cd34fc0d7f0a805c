package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
)

// repaired is the answer of weirctl check --repair -o json.
type repaired struct {
	Found []string     `json:"found"` // the problems before
	Told  []string     `json:"told"`  // what was skipped or given up
	Check check.Report `json:"check"` // what is found now
}

// repairBucket repairs a bucket so that a node can lead again, and checks it once more.
func (c *call) repairBucket(ctx context.Context, url string) error {
	secret, err := c.readSecret()
	if err != nil {
		return err
	}
	bucket, err := existing(ctx, url)
	if err != nil {
		return err
	}
	defer storage.Close(bucket)
	out := c.stdout
	if c.json {
		out = io.Discard
	}
	var answer repaired
	before, err := examine(ctx, bucket, out)
	if err != nil {
		return err
	}
	if len(before.Problems) == 0 {
		fmt.Fprintln(out, "there is nothing to repair")
		return c.report(before)
	}
	answer.Found = before.Problems
	tell := func(what string) {
		answer.Told = append(answer.Told, what)
		fmt.Fprintln(out, "repair:", what)
	}
	fmt.Fprintf(out, "%d problems found: repairing\n", len(before.Problems))
	local := strings.HasPrefix(url, "file:") || strings.HasPrefix(url, "mem:")
	if err := repairAuthority(ctx, bucket, secret, local, tell); err != nil {
		return err
	}
	if err := repairLogs(ctx, bucket, tell); err != nil {
		return err
	}
	if answer.Check, err = examine(ctx, bucket, out); err != nil {
		return err
	}
	if !c.json {
		return c.report(answer.Check)
	}
	if _, err := c.print(answer); err != nil || len(answer.Check.Problems) == 0 {
		return err
	}
	return errProblems
}

// repairAuthority makes a new CA if the old one is lost.
func repairAuthority(ctx context.Context, bucket storage.Bucket, secret []byte, local bool, tell func(string)) error {
	lost := fleet.CheckAuthority(ctx, bucket)
	switch {
	case lost == nil:
		return nil
	case secret == nil && !local:
		return fmt.Errorf("the CA is lost and a new one is needed: set --secret-file FILE to encrypt its key, as the bucket is not a local folder (%w)", lost)
	}
	tell(fmt.Sprintf("object %s: made again with a new CA: every gateway must join again (weirctl gateways reset, join-token): %v", fleet.AuthorityKey, lost))
	return fleet.ReplaceAuthority(ctx, bucket, secret, time.Now())
}

// repairLogs repairs the log of each shard. What says how many there are comes first, then
// shard 0.
func repairLogs(ctx context.Context, bucket storage.Bucket, tell func(string)) error {
	created, err := repairCluster(ctx, bucket, tell)
	shards := created
	for id := 0; err == nil && id < shards; id++ {
		err = repairLog(ctx, bucket, uint32(id), created, tell)
		if err == nil && id == 0 {
			shards, err = shardsNow(ctx, bucket, created)
		}
	}
	return err
}

// shardsNow returns how many shards a cluster has, as the log of shard 0 says, which is
// repaired.
func shardsNow(ctx context.Context, bucket storage.Bucket, created int) (int, error) {
	m, err := commitlog.ReadMirror(ctx, bucket)
	if err != nil {
		return 0, err
	}
	_, shards := m.Map()
	return max(created, int(shards)), nil
}

// repairCluster repairs the object that says how many shards there are, and returns how
// many.
func repairCluster(ctx context.Context, bucket storage.Bucket, tell func(string)) (shards int, err error) {
	c, found, err := identity.ReadCluster(ctx, bucket)
	if err != nil || !found {
		known, err := check.Know(ctx, bucket, 0)
		if err == nil {
			err = identity.Repair(ctx, bucket, known.Cluster, known.Named, known.Identity, tell)
		}
		if err == nil {
			c, _, err = identity.ReadCluster(ctx, bucket)
		}
		if err != nil {
			return 0, fmt.Errorf("repair the object %s: %w", identity.Key, err)
		}
	}
	return max(1, c.Shards), nil
}

// repairLog repairs the log of a shard, with the machines and options of a node: a
// checkpoint that has more than a node's is one that no node can read.
func repairLog(ctx context.Context, bucket storage.Bucket, id uint32, created int, tell func(string)) error {
	quiet := slog.New(slog.DiscardHandler)
	machines := shard.New(shard.Options{Log: quiet, Part: shard.PartOf(id, created)})
	// The claim has this name only if no other claim can be read. A node finds that
	// nothing answers at its address, and leads.
	nobody := cluster.Node{Name: "weirctl", Addresses: cluster.Addresses{cluster.HTTP: {"": "repaired.invalid:1"}}}
	info, err := nobody.Info(1) // nodes of any version read it
	if err != nil {
		return err
	}
	o := commitlog.Options{Bucket: bucket, Shard: id, Node: nobody.Name, Info: info, Log: quiet, Machines: machines.Machines()}
	if machines.Part != shard.Data {
		o.Beside = []string{fleet.AuthorityKey}
	}
	err = commitlog.Repair(ctx, o, tell)
	return errors.Join(err, machines.Close())
}
