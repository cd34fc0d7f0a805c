package redis

import (
	"context"
	"fmt"
	"strings"
)

// Warnings returns a sentence for each setting under which the server can lose an
// object that it acknowledged. A setting that cannot be read is a warning too.
func (b *Bucket) Warnings(ctx context.Context) []string {
	var found []string
	settings, err := b.settings(ctx, "appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")
	if err != nil {
		found = append(found, fmt.Sprintf("the settings of the server could not be read (%v): make sure that they are appendonly yes, "+
			"appendfsync always, no-appendfsync-on-rewrite no and maxmemory-policy noeviction", err))
	} else {
		found = append(found, exposed(settings)...)
	}
	info, err := b.info(ctx, "replication")
	if err != nil {
		return append(found, fmt.Sprintf("the replication of the server could not be read (%v): "+
			"make sure that no replica can take its place, because it may lack the newest objects", err))
	}
	return append(found, b.failover(ctx, info)...)
}

// settings asks for each setting separately: several at a time need Redis 7, and "*"
// would include passwords.
func (b *Bucket) settings(ctx context.Context, names ...string) (map[string]string, error) {
	return wait(ctx, b, func() (map[string]string, error) {
		values := make(map[string]string)
		for _, name := range names {
			answer, err := b.client.ConfigGet(ctx, name).Result()
			if err != nil {
				return nil, err
			}
			values[name] = answer[name]
		}
		return values, nil
	})
}

// exposed looks at the server's own disk and memory.
func exposed(settings map[string]string) (found []string) {
	if v := settings["appendonly"]; v != "yes" {
		found = append(found, fmt.Sprintf("appendonly is %q, so a crash or restart loses all objects since the last snapshot: set it to yes", v))
	}
	if v := settings["appendfsync"]; v != "always" {
		found = append(found, fmt.Sprintf("appendfsync is %q, so a power cut loses the objects of the last seconds: set it to always", v))
	}
	if v := settings["no-appendfsync-on-rewrite"]; v != "no" {
		found = append(found, fmt.Sprintf("no-appendfsync-on-rewrite is %q, so a power cut during a rewrite of the "+
			"append-only file loses the objects since it began: set it to no", v))
	}
	// The volatile policies evict only keys with a time to live, and no object has one.
	policy := settings["maxmemory-policy"]
	if settings["maxmemory"] != "0" && policy != "noeviction" && !strings.HasPrefix(policy, "volatile-") {
		found = append(found, fmt.Sprintf("maxmemory-policy is %q, so the server evicts objects when the %s bytes of maxmemory are used: "+
			"set it to noeviction", policy, settings["maxmemory"]))
	}
	return found
}

// failover looks for servers that may replace this one. Replication in Redis is
// asynchronous: a replica may lack what was acknowledged last.
func (b *Bucket) failover(ctx context.Context, info map[string]string) (found []string) {
	if info["role"] != "master" {
		found = append(found, fmt.Sprintf("the server is a replica of %s:%s, so it refuses new objects, or loses them, "+
			"and its listings are old: name the master in the URL", info["master_host"], info["master_port"]))
	}
	if n := info["connected_slaves"]; n != "0" {
		found = append(found, fmt.Sprintf("the server has replicas (%s), so a failover to one of them loses the newest objects: "+
			"use a single server", n))
	}
	// Every Sentinel listens on this channel of every server that it watches.
	const channel = "__sentinel__:hello"
	sentinels, err := wait(ctx, b, func() (map[string]int64, error) {
		return b.client.PubSubNumSub(ctx, channel).Result()
	})
	if err != nil {
		found = append(found, fmt.Sprintf("it is not known whether a Sentinel watches the server (%v): "+
			"make sure that none does, because it may replace it by a replica, which loses the newest objects", err))
	}
	if n := sentinels[channel]; n > 0 {
		found = append(found, fmt.Sprintf("Sentinels watch the server (%d), so they may replace it by a replica, "+
			"which loses the newest objects: use a single server", n))
	}
	return found
}
