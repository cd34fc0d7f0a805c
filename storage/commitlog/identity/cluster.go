package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// Key is the object that makes a bucket a cluster. It is created once.
const Key = "cluster"

// format is the highest format level that this program reads and writes. FORMAT.md says
// what each level adds.
const format = 2

// Cluster is what the object `cluster` says.
type Cluster struct {
	ID     string `json:"id"`               // 22 characters, as Kafka's
	Format int    `json:"format"`           // level of everything in the bucket
	Slices int    `json:"slices,omitempty"` // weir.Slices; at level 1 it is not written
	Shards int    `json:"shards"`           // when the cluster was created; the map of slices then was weir.FirstMap
	CRC    string `json:"crc,omitempty"`    // of the other fields as created; from level 2 on
}

// sum is the checksum of the other fields.
func (c Cluster) sum() string {
	said := fmt.Appendf(nil, "%s %d %d %d", c.ID, c.Format, c.Slices, c.Shards)
	if c.Format < 2 { // from a repair
		said = fmt.Appendf(nil, "%s %d %d", c.ID, c.Format, c.Shards)
	}
	return fmt.Sprintf("%08x", crc.Sum(said))
}

// ReadCluster reads the object `cluster`; found is false if the bucket has none. With
// ErrFormat, c has what could be read of a later level.
func ReadCluster(ctx context.Context, b storage.Bucket) (c Cluster, found bool, err error) {
	raw, err := b.Get(ctx, Key, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return Cluster{}, false, nil
	}
	if err != nil {
		return Cluster{}, false, fmt.Errorf("read object %s: %w", Key, err)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return Cluster{}, true, fmt.Errorf("read object %s: %w: %w", Key, state.ErrCorrupt, err)
	}
	if c.Format < 1 || c.Shards < 1 || c.ID == "" || c.CRC != "" && c.CRC != c.sum() || c.Format == 2 && c.CRC == "" {
		return c, true, fmt.Errorf("read object %s: %w: %q", Key, state.ErrCorrupt, raw)
	}
	if c.Format == 1 && c.Slices == 0 {
		c.Slices = weir.Slices // all of them in shard 0
	}
	if c.Slices != weir.Slices && c.Format <= format {
		return c, true, fmt.Errorf("%w: the cluster has %d slices, this program knows %d", state.ErrFormat, c.Slices, weir.Slices)
	}
	up, err := raised(ctx, b)
	if err != nil {
		return c, true, err
	}
	if up.Level > c.Format {
		c.Format = up.Level
	}
	if c.Format > format {
		return c, true, fmt.Errorf("%w: the bucket is at format level %d, which needs %s; this program knows level %d",
			state.ErrFormat, c.Format, needed(up.Needs), format)
	}
	return c, true, nil
}

// needed names the version of weir that a format level needs, if the bucket says it.
func needed(version string) string {
	if version == "" {
		return "a later version of weir"
	}
	return "weir " + version + " or later"
}

// upgrade is the content of an object that raises the format level. There is one for
// each level above the one that the cluster was created with.
type upgrade struct {
	Level int    `json:"level"`
	Needs string `json:"needs"` // the oldest version that knows it
}

const upgradePrefix = "format/"

func upgradeKey(level int) string { return fmt.Sprintf("%s%04d", upgradePrefix, level) }

// raised returns the highest upgrade of a bucket, the zero value if there is none.
func raised(ctx context.Context, b storage.Bucket) (up upgrade, err error) {
	keys, err := b.List(ctx, upgradePrefix, "", 1000)
	if err != nil {
		return up, fmt.Errorf("list format levels: %w", err)
	}
	if len(keys) == 0 {
		return up, nil
	}
	key := keys[len(keys)-1]
	raw, err := b.Get(ctx, key, 0, -1)
	if err == nil && (json.Unmarshal(raw, &up) != nil || upgradeKey(up.Level) != key) {
		err = fmt.Errorf("%w: %q", state.ErrCorrupt, raw)
	}
	if err != nil {
		return up, fmt.Errorf("read object %s: %w", key, err)
	}
	return up, nil
}

// Level is the highest format level that this program knows.
const Level = format

// Upgrade raises the format level of a bucket to level, which this program must know.
// needs is the oldest version that knows the level; older programs name it in their
// error. From then on older programs refuse to lead, and the next owner may write what
// is new at that level. Upgrade is durable on return and returns the level before. It
// cannot be undone.
//
// Errors: ErrFormat for a level that this program does not know, fs.ErrNotExist
// for a bucket without a cluster, and the bucket's.
func Upgrade(ctx context.Context, b storage.Bucket, level int, needs string) (before int, err error) {
	c, found, err := ReadCluster(ctx, b)
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, fmt.Errorf("bucket has no object %s: %w", Key, fs.ErrNotExist)
	case level > format:
		return c.Format, fmt.Errorf("%w: level %d, this program knows %d", state.ErrFormat, level, format)
	}
	return c.Format, raise(ctx, b, c.Format, level, needs)
}

func raise(ctx context.Context, b storage.Bucket, from, level int, needs string) error {
	for next := from + 1; next <= level; next++ {
		raw, err := json.Marshal(upgrade{next, needs})
		if err != nil {
			return fmt.Errorf("encode format level %d: %w", next, err)
		}
		err = storage.Until(ctx, func() error { return b.Create(ctx, upgradeKey(next), raw) }, storage.ErrExists)
		if err != nil && !errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("create object %s: %w", upgradeKey(next), err)
		}
	}
	return nil
}

// ErrShards: the cluster has another number of shards than was asked for.
var ErrShards = errors.New("a cluster keeps the number of shards that it was created with, until it is given more while it runs")

// Open reads the object `cluster`, or creates it with that number of shards, which
// includes shard 0: see weir.FirstMap. With 0 shards any number will do, and a new
// cluster has one. Of several nodes that find a bucket empty one creates the object, and
// the others read it, even if the number there is not theirs: they compare. A crash
// before that leaves nothing, after it a cluster without a log.
//
// Errors: ErrShards for an existing cluster with another number; ErrFormat, ErrCorrupt,
// and the bucket's.
func Open(ctx context.Context, b storage.Bucket, shards int) (Cluster, error) {
	if shards < 0 || shards > weir.MaxShards {
		return Cluster{}, fmt.Errorf("%d shards: a cluster has 1 to %d", shards, weir.MaxShards)
	}
	c, found, err := ReadCluster(ctx, b)
	if err == nil && found && shards > 0 && shards != c.Shards {
		err = fmt.Errorf("%w (weirctl shards split): it was created with %s, and %s are asked for", ErrShards, described(c.Shards), described(shards))
	}
	if found || err != nil {
		return c, err
	}
	began, err := Began(ctx, b)
	if err != nil {
		return c, err
	}
	if began { // perhaps by a faster node, meanwhile
		if c, found, err = ReadCluster(ctx, b); err == nil && !found {
			err = journal.Missing(Key, "a log has begun in this bucket")
		}
		return c, err
	}
	c = newCluster(cmp.Or(shards, 1))
	raw, err := json.Marshal(c)
	if err != nil {
		return Cluster{}, fmt.Errorf("encode object %s: %w", Key, err)
	}
	switch err := storage.CreateOwn(ctx, b, Key, raw); {
	case err == nil:
		return c, nil
	case errors.Is(err, storage.ErrExists):
		c, found, err := ReadCluster(ctx, b)
		if err == nil && !found {
			err = fmt.Errorf("%w: object %s was there before and is missing", state.ErrCorrupt, Key)
		}
		return c, err
	default:
		return Cluster{}, fmt.Errorf("create object %s: %w", Key, err)
	}
}

// described tells a number of shards as people chose it: shard 0 does not count if there
// are others.
func described(shards int) string {
	if shards == 1 {
		return "one shard"
	}
	return fmt.Sprintf("%d shards besides the catalogue", shards-1)
}

func newCluster(shards int) Cluster {
	var id [16]byte
	rand.Read(id[:])
	c := Cluster{ID: base64.RawURLEncoding.EncodeToString(id[:]), Format: format, Slices: weir.Slices, Shards: shards}
	c.CRC = c.sum()
	return c
}

// Sums returns the checksums of those objects beside the log that exist.
func Sums(ctx context.Context, b storage.Bucket, keys []string) (sums []state.Sum, err error) {
	for _, key := range keys {
		var raw []byte
		err := storage.Until(ctx, func() (err error) {
			raw, err = b.Get(ctx, key, 0, -1)
			return err
		}, fs.ErrNotExist)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read object %s: %w", key, err)
		}
		sums = append(sums, state.Sum{Key: key, CRC: crc.Sum(raw)})
	}
	slices.SortFunc(sums, func(a, b state.Sum) int { return cmp.Compare(a.Key, b.Key) })
	return sums, nil
}

// Differs returns an error for each object beside the log that is not what the log
// says of it. there are the checksums of those that were found.
func Differs(i *state.Identity, c Cluster, there []state.Sum) (problems []error) {
	if i == nil {
		return nil
	}
	if c.Format < i.Level {
		problems = append(problems, journal.Missing(upgradeKey(i.Level), fmt.Sprintf("the log was written at format level %d, and the bucket is at %d", i.Level, c.Format)))
	}
	found := state.Identity{Sums: there}
	for _, s := range i.Sums {
		switch crc, ok := found.Find(s.Key); {
		case !ok:
			problems = append(problems, journal.Missing(s.Key, "the log has its checksum"))
		case crc != s.CRC:
			problems = append(problems, fmt.Errorf("%w: object %s has checksum %08x, and the log says %08x", state.ErrCorrupt, s.Key, crc, s.CRC))
		}
	}
	if len(problems) == 0 && c.ID != i.Cluster {
		problems = append(problems, fmt.Errorf("%w: object %s says cluster %q, and the log says %q", state.ErrCorrupt, Key, c.ID, i.Cluster))
	}
	return problems
}

// Began reports whether the log of a shard was ever begun in the bucket. Objects that are
// created once, before any log begins, must then exist: they must not be created again.
func Began(ctx context.Context, b storage.Bucket) (bool, error) {
	keys, err := b.List(ctx, "0", "", 1) // of any of the first 1000 shards: they begin together
	if err != nil {
		return false, fmt.Errorf("look for a log: %w", err)
	}
	return len(keys) > 0, nil
}

// createdShards returns how many shards a cluster was created with whose object is lost:
// the log has the checksum of the object.
func createdShards(ctx context.Context, b storage.Bucket, c Cluster, known *state.Identity) (int, error) {
	sum, _ := known.Find(Key)
	for c.Shards = 1; c.Shards <= weir.MaxShards; c.Shards++ {
		c.CRC = c.sum()
		raw, err := json.Marshal(c)
		if err != nil {
			return 0, err
		}
		if crc.Sum(raw) == sum {
			return c.Shards, nil
		}
	}
	return 1, oneShard(ctx, b) // it was created at level 1, when there was one shard
}

// oneShard returns an error if the log of another shard than 0 has begun.
func oneShard(ctx context.Context, b storage.Bucket) error {
	others, err := b.List(ctx, "0", "0001/", 1)
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("%w: object %s is lost, and nothing says how many shards there are", state.ErrCorrupt, Key)
	}
	return err
}

// Repair replaces the object cluster, if it is missing or damaged, by what the log
// says, and raises the level again.
func Repair(ctx context.Context, b storage.Bucket, c Cluster, named bool, known *state.Identity, tell func(string)) error {
	if !named {
		keys, err := b.List(ctx, upgradePrefix, "", 1000)
		if err != nil {
			return err
		}
		if len(keys) > 0 { // one of them may be damaged
			if err := b.Delete(ctx, keys...); err != nil {
				return err
			}
		}
		if err := b.Delete(ctx, Key); err != nil {
			return err
		}
		c = newCluster(1)
		if known != nil {
			c.ID = known.Cluster
			if c.Shards, err = createdShards(ctx, b, c, known); err != nil {
				return err
			}
			tell(fmt.Sprintf("object %s: made again as the log knows it", Key))
		} else if err := oneShard(ctx, b); err != nil {
			return err
		} else {
			c.Format, c.Slices = 1, 0
			tell(fmt.Sprintf("object %s: made again with a new id, %s: gateways and clients that know the old one see another cluster", Key, c.ID))
		}
		c.CRC = c.sum()
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if err := b.Create(ctx, Key, raw); err != nil {
			return err
		}
	}
	if known == nil || c.Format >= known.Level {
		return nil
	}
	tell(fmt.Sprintf("object %s: made again", upgradeKey(known.Level)))
	return raise(ctx, b, c.Format, known.Level, "of a later version")
}
