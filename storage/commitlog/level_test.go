package commitlog

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
)

// A bucket of an earlier level works on as it is, at its level, until it is raised;
// a new one is at the newest level.
func TestLevelInForce(t *testing.T) {
	b := mem.New()
	must(b.Create(t.Context(), identity.Key, []byte(`{"id":"AAAAAAAAAAAAAAAAAAAAAA","format":1,"shards":1}`)))
	for range 2 {
		l := open(t, b)
		if l.Level() != 1 {
			t.Errorf("level %d in a bucket of level 1", l.Level())
		}
		createTopic(t, l, fmt.Sprint("t", l.Epoch()), 1)
		must(l.Close())
	}
	l := open(t, b)
	if before, err := identity.Upgrade(t.Context(), b, identity.Level, "v9"); before != 1 || err != nil {
		t.Errorf("upgraded from level %d: %v", before, err)
	}
	if l.Level() != 1 {
		t.Error("the level was raised under an owner")
	}
	must(l.Close())
	l = open(t, b)
	if l.Level() != identity.Level || len(l.Topics()) != 2 {
		t.Errorf("level %d and %d topics after the upgrade", l.Level(), len(l.Topics()))
	}
	must(l.Close())
	sound(t, b)

	l = open(t, mem.New())
	if l.Level() != identity.Level {
		t.Errorf("a new bucket is at level %d", l.Level())
	}
	must(l.Close())
}
