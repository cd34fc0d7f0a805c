package commitlog

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/weirmq/weir/storage"
)

// clusterKey is the object that makes a bucket a cluster. It is created once.
const clusterKey = "cluster"

// format is the level at which this program reads and writes.
const format = 1

// Cluster is what the object `cluster` says.
type Cluster struct {
	ID     string `json:"id"`     // 22 characters, as Kafka's
	Format int    `json:"format"` // level of everything in the bucket
	Shards int    `json:"shards"`
}

// ReadCluster reads the object `cluster`; found is false when the bucket has
// none. ErrFormat comes with what could be read of a later level.
func ReadCluster(ctx context.Context, b storage.Bucket) (c Cluster, found bool, err error) {
	raw, err := b.Get(ctx, clusterKey, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return Cluster{}, false, nil
	}
	if err != nil {
		return Cluster{}, false, fmt.Errorf("read object %s: %w", clusterKey, err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return Cluster{}, true, fmt.Errorf("read object %s: %w: %w", clusterKey, ErrCorrupt, err)
	}
	switch {
	case c.Format > format:
		return c, true, fmt.Errorf("read object %s: %w: level %d, this program knows %d", clusterKey, ErrFormat, c.Format, format)
	case c.Format < 1 || c.Shards < 1 || c.ID == "":
		return c, true, fmt.Errorf("read object %s: %w: %s", clusterKey, ErrCorrupt, raw)
	}
	return c, true, nil
}

// openCluster reads the object `cluster`, or creates it. Of several nodes that
// find a bucket empty one creates it and the others read it. A crash before
// that leaves nothing, after it a cluster without a log.
func openCluster(ctx context.Context, b storage.Bucket) (Cluster, error) {
	c, found, err := ReadCluster(ctx, b)
	if found || err != nil {
		return c, err
	}
	var id [16]byte
	rand.Read(id[:])
	c = Cluster{ID: base64.RawURLEncoding.EncodeToString(id[:]), Format: format, Shards: 1}
	raw, err := json.Marshal(c)
	if err != nil {
		return Cluster{}, fmt.Errorf("encode object %s: %w", clusterKey, err)
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := b.Create(ctx, clusterKey, raw)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, storage.ErrExists):
			c, found, err := ReadCluster(ctx, b)
			if err == nil && !found {
				err = fmt.Errorf("%w: object %s was there and is gone", ErrCorrupt, clusterKey)
			}
			return c, err
		case errors.Is(err, storage.ErrUnknown) && ctx.Err() == nil:
			// It may exist now, or later: only another Create can tell.
			pause(ctx, wait)
		default:
			return Cluster{}, fmt.Errorf("create object %s: %w", clusterKey, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
