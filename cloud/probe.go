package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
)

// probeName stands for this program and the bucket's address, without its password.
func probeName(address string) string {
	if u, err := url.Parse(address); err == nil {
		u.User = nil
		address = u.String()
	}
	sum := sha256.Sum256([]byte(address + "\n" + configs.Version()))
	return hex.EncodeToString(sum[:16])
}

// meetBucket probes the bucket, and reads what it says of the cluster and its CA. Probing
// takes a dozen requests, one after the other. If this program has probed the bucket before,
// Run does it once more in the background.
func (n *Node) meetBucket(ctx context.Context) (read clusterRead, err error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	early := make(chan clusterRead, 1)
	wg.Go(func() { early <- n.tryCluster(ctx) })
	name := probeName(n.o.BucketURL)
	if n.probed = n.o.BucketURL != "" && storage.Passed(ctx, n.o.Bucket, name); !n.probed {
		if err := storage.Probe(ctx, n.o.Bucket); err != nil {
			return read, err
		}
		n.warnOfBucket(ctx)
		if n.o.BucketURL != "" {
			if err := storage.NotePassed(ctx, n.o.Bucket, name); err != nil {
				return read, err
			}
		}
		<-early // a new bucket has a cluster as soon as another node has made one
		early <- n.tryCluster(ctx)
	}
	n.bucket = storage.Metrics(n.o.Bucket, n.metrics.Set, "bucket")
	if err := n.openKeys(ctx); err != nil {
		return read, err
	}
	return <-early, nil
}

// clusterRead is what identity.ReadCluster has returned.
type clusterRead struct {
	cluster identity.Cluster
	found   bool
	err     error
}

func (n *Node) tryCluster(ctx context.Context) (r clusterRead) {
	r.cluster, r.found, r.err = identity.ReadCluster(ctx, n.o.Bucket)
	return r
}

// warnOfBucket logs under which settings the store can lose what it acknowledged.
func (n *Node) warnOfBucket(ctx context.Context) {
	for _, warning := range storage.Warnings(ctx, n.o.Bucket) {
		n.o.Log.Warn("the bucket can lose what it acknowledged", "reason", warning)
	}
}

// probeAgain ends the node if the bucket no longer passes Probe: another store may be at its
// address.
func (n *Node) probeAgain(ctx context.Context) {
	n.warnOfBucket(ctx)
	err := storage.Probe(ctx, n.o.Bucket)
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, storage.ErrNoCreate):
		n.fail(fmt.Errorf("the bucket does not do any more what it did when it was probed before: %w", err))
	case err != nil:
		n.o.Log.Warn("the bucket was not probed again: it passed before", "err", err)
	}
}
