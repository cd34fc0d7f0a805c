package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// A bucket that was raised above what this program knows is not led, and the
// error says what is needed; what it knows may be raised to again.
func TestFormatLevels(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	if _, err := Upgrade(ctx, b, Level, "v9"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("upgrade of an empty bucket: %v", err)
	}
	made(t, b)
	if before, err := Upgrade(ctx, b, Level, "v9"); before != Level || err != nil {
		t.Errorf("upgrade to what it is: %d, %v", before, err)
	}
	if _, err := Upgrade(ctx, b, Level+1, "v9"); !errors.Is(err, state.ErrFormat) {
		t.Errorf("upgrade to what is not known: %v", err)
	}
	must(raise(ctx, b, Level, Level+2, "v9.1"))
	must(raise(ctx, b, Level, Level+2, "v9.1")) // again is no error
	if _, _, err := ReadCluster(ctx, b); !errors.Is(err, state.ErrFormat) || !strings.Contains(err.Error(), "v9.1 or later") {
		t.Errorf("a later level: %v", err)
	}
	must(b.Create(ctx, upgradePrefix+"9999", []byte("{}")))
	if _, _, err := ReadCluster(ctx, b); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("read with a damaged level: %v", err)
	}
}

// Each object that raises the format level may fail, or land before or after its
// answer was lost: afterwards the level is what it was to be, for good.
func TestRaiseUnderFaults(t *testing.T) {
	for _, fate := range storagetest.Fates() {
		for _, level := range []int{Level + 1, Level + 2} {
			t.Run(fmt.Sprint(fate, " ", level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := mem.New()
					made(t, b)
					f := storagetest.NewFaults(b, 1)
					defer f.Close()
					struck := false // Creates of raise come one after the other
					f.Plan(func(c storagetest.Call) storagetest.Outcome {
						if c.Verb != storagetest.Create || c.Keys[0] != upgradeKey(level) || struck {
							return storagetest.Outcome{}
						}
						struck = true
						return storagetest.Outcome{Fate: fate}
					})
					ctx := t.Context()
					must(raise(ctx, f, Level, Level+2, "v9.1"))
					if !struck {
						t.Fatal("nothing was raised")
					}
					raisedTo(t, b, Level+2)
					f.Land()
					raisedTo(t, b, Level+2)
					must(raise(ctx, f, Level, Level+2, "v9.1"))
				})
			})
		}
	}
}

// raisedTo checks that a bucket is at a level that this program does not know.
func raisedTo(t *testing.T, b storage.Bucket, level int) {
	t.Helper()
	c, found, err := ReadCluster(context.Background(), b)
	if c.Format != level || !found || !errors.Is(err, state.ErrFormat) || !strings.Contains(err.Error(), "v9.1") {
		t.Errorf("level %d, found %v: %v", c.Format, found, err)
	}
	up, err := raised(context.Background(), b)
	if up != (upgrade{level, "v9.1"}) || err != nil {
		t.Errorf("%+v, %v", up, err)
	}
}

// What is said at rest does not change by accident, and what level 1 does not say is known.
func TestGoldenCluster(t *testing.T) {
	c := Cluster{ID: "AAAAAAAAAAAAAAAAAAAAAA", Format: 2, Slices: 1024, Shards: 1}
	c.CRC = c.sum()
	raw, err := json.Marshal(c)
	if want := `{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":2,"slices":1024,"shards":1,"crc":"a824c3e6"}`; string(raw) != want || err != nil {
		t.Errorf("%s, want %s", raw, want)
	}
	b := mem.New()
	must(b.Create(t.Context(), Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
	if c, found, err := ReadCluster(t.Context(), b); c.Slices != 1024 || c.Shards != 1 || !found || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

// The number of shards is chosen once. Who asks for another one is told, and who asks for
// none gets what there is.
func TestShards(t *testing.T) {
	b := mem.New()
	for _, bad := range []int{-1, weir.MaxShards + 1} {
		if _, err := Open(t.Context(), b, bad); err == nil {
			t.Errorf("created a cluster with %d shards", bad)
		}
	}
	c, err := Open(t.Context(), b, 5)
	if err != nil || c.Shards != 5 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, same := range []int{0, 5} {
		if again, err := Open(t.Context(), b, same); err != nil || again != c {
			t.Errorf("asked for %d shards: %+v, %v", same, again, err)
		}
	}
	for _, other := range []int{1, 4} {
		if _, err := Open(t.Context(), b, other); !errors.Is(err, ErrShards) || !strings.Contains(err.Error(), "4 shards besides the catalogue") {
			t.Errorf("asked for %d shards: %v", other, err)
		}
	}
}

// Of two nodes that create a cluster at once with different numbers, the first one wins,
// and the other one sees what there is.
func TestShardsOfTwoNodes(t *testing.T) {
	b := mem.New()
	f := storagetest.NewFaults(b, 1)
	defer f.Close()
	f.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Create {
			must(b.Create(context.Background(), Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
		}
		return storagetest.Outcome{}
	})
	if c, err := Open(t.Context(), f, 5); err != nil || c.Shards != 1 || c.ID != "AAAAAAAAAAAAAAAAAAAAAA" {
		t.Errorf("%+v, %v", c, err)
	}
}

// The log of any shard shows that there was a cluster: the object is not created again.
func TestBegan(t *testing.T) {
	b := mem.New()
	must(b.Create(t.Context(), "0003/epoch/00000000000000000001", nil))
	if _, err := Open(t.Context(), b, 5); !errors.Is(err, storage.ErrMissing) {
		t.Errorf("created a cluster over the log of a shard: %v", err)
	}
}

// made makes a bucket a cluster.
func made(t *testing.T, b storage.Bucket) {
	t.Helper()
	if _, err := Open(t.Context(), b, 0); err != nil {
		t.Fatal(err)
	}
}

// must is for what cannot fail in a test.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
