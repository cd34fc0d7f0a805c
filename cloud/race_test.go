package cloud

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// astray is a way to a bucket whose writers do not see what came another way to
// the names that are raced for: as two sites do that copy from each other later.
type astray struct {
	storage.Bucket
	own *mem.Bucket
}

// raced reports whether a key is one of the names that two nodes race for.
func raced(key string) bool {
	return strings.HasPrefix(key, "probe/race/") && !strings.Contains(key, "-") && !strings.HasSuffix(key, "accept") && !strings.HasSuffix(key, "report")
}

func (a astray) Create(ctx context.Context, key string, body []byte) error {
	if raced(key) {
		return a.own.Create(ctx, key, body)
	}
	return a.Bucket.Create(ctx, key, body)
}

func (a astray) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if raced(key) {
		return a.own.Get(ctx, key, off, n)
	}
	return a.Bucket.Get(ctx, key, off, n)
}

// TestRaceOfNodes: a second node whose way to the bucket is not that of the owner,
// though each keeps its promises to itself, ends and says why; the owner goes on. One
// with a good way stays.
func TestRaceOfNodes(t *testing.T) {
	start := func(b storage.Bucket, name string) running {
		r := openNode(t, b, name, t.TempDir(), func(o *Options) { o.Takeover = 2 * time.Second })
		r.run(t)
		return r
	}
	bucket := mem.New()
	first := start(bucket, "first")
	first.says(t, "ready")
	second := start(bucket, "second")
	second.says(t, "this node and the owner exclude each other in the bucket")
	third := start(astray{bucket, mem.New()}, "third")
	select {
	case <-third.ended:
		if !errors.Is(*third.err, storage.ErrNoCreate) || !strings.Contains(third.errText(), "first") {
			t.Errorf("the third node: %v", *third.err)
		}
	case <-time.After(time.Minute):
		for len(third.said) > 0 {
			t.Log(<-third.said)
		}
		t.Error("the third node goes on")
	}
	for _, r := range []running{first, second} {
		select {
		case <-r.ended:
			t.Errorf("%s has ended: %v", r.o.Node, *r.err)
		default:
		}
	}
}

func (r running) errText() string { return (*r.err).Error() }
