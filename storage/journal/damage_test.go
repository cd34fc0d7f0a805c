package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// written returns a bucket with two epochs: 1/0 header, 1/1 and 1/2 DATA, 1/3
// SEAL, 2/0 header, 2/1 DATA.
func written(t *testing.T) *mem.Bucket {
	t.Helper()
	b := mem.New()
	for _, bodies := range [][]string{{"a", "b"}, {"c"}} {
		j := open(t, b, &book{})
		for _, body := range bodies {
			write(t, j, body)
		}
		closeClean(t, j)
	}
	return b
}

// replace does what no bucket offers.
func replace(t *testing.T, b storage.Bucket, key string, body []byte) {
	t.Helper()
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if body == nil {
		return
	}
	if err := b.Create(t.Context(), key, body); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, b storage.Bucket, key string) []byte {
	t.Helper()
	raw, err := b.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestDamage damages every object in turn: whoever reads it says so, and names
// the key.
func TestDamage(t *testing.T) {
	slots := []Position{{1, 0}, {1, 1}, {1, 2}, {1, 3}, {2, 0}, {2, 1}}
	for _, damage := range []struct {
		name  string
		apply func(raw []byte) []byte
		want  error
	}{
		{"Flip", func(raw []byte) []byte { raw[len(raw)/2] ^= 0x10; return raw }, ErrCorrupt},
		{"Cut", func(raw []byte) []byte { return raw[:len(raw)-1] }, ErrCorrupt},
		{"Empty", func(raw []byte) []byte { return []byte{} }, ErrCorrupt},
		{"Version", func(raw []byte) []byte { raw[offVersion]++; return rechecked(raw) }, ErrFormat},
		{"Shard", func(raw []byte) []byte { raw[offShard+3]++; return rechecked(raw) }, ErrCorrupt},
		{"Epoch", func(raw []byte) []byte {
			raw[offEpoch+7] += 7
			raw[offAuthor+7] += 7
			return rechecked(raw)
		}, ErrCorrupt},
	} {
		for _, pos := range slots {
			t.Run(fmt.Sprintf("%s-%d-%d", damage.name, pos.Epoch, pos.Slot), func(t *testing.T) {
				b, key := written(t), SlotKey(0, pos)
				replace(t, b, key, damage.apply(read(t, b, key)))
				_, err := Replay(t.Context(), Options{Bucket: b}, &book{})
				if !errors.Is(err, damage.want) || !strings.Contains(err.Error(), key) {
					t.Errorf("Replay: %v", err)
				}
				_, err = Open(t.Context(), Options{Bucket: b}, &book{})
				if !errors.Is(err, damage.want) || !strings.Contains(err.Error(), key) {
					t.Errorf("Open: %v", err)
				}
			})
		}
	}
}

// TestDisplaced puts intact objects where they do not belong.
func TestDisplaced(t *testing.T) {
	foreign := testClaim(1)
	start := foreign.header(0, way{oldest: beginning})
	data := dataObject(0, foreign, 1, nil)
	seal := sealObject(0, testClaim(2), Position{1, 2})
	other := func(y way, alter func([]byte)) []byte {
		raw := testClaim(2).header(0, y)
		alter(raw)
		return rechecked(raw)
	}
	from := func(entries, seal uint64) way {
		return way{entries: entries, oldest: beginning, seals: []uint64{seal}}
	}
	same := func([]byte) {}
	skewed := sealObject(0, testClaim(2), Position{1, 3})
	for _, test := range []struct {
		name string
		pos  Position
		body []byte
		want error
	}{
		{"ClaimAsHeader", Position{1, 0}, foreign.encode(0), ErrCorrupt},
		{"HeaderOfOther", Position{1, 0}, start, ErrCorrupt},
		{"HeaderOtherCount", Position{2, 0}, other(from(9, 3), same), ErrCorrupt},
		{"HeaderOtherSeals", Position{2, 0}, other(from(2, 4), same), ErrCorrupt},
		{"HeaderFromItself", Position{2, 0}, other(way{entries: 2, start: Position{2, 1}, oldest: Position{2, 0}}, same), ErrCorrupt},
		{"HeaderKinds", Position{2, 0}, other(from(2, 3), func(p []byte) { p[fixedSize]++ }), ErrFormat},
		{"HeaderCut", Position{2, 0}, other(from(2, 3), func(p []byte) {
			copy(p[fixedSize+entrySize+20:], p[fixedSize+entrySize+24:]) // the second entry moves up
			p[fixedSize+5], p[fixedSize+entrySize+25] = 20, 28
		}), ErrCorrupt},
		{"DataOfOther", Position{1, 1}, data.encode(), ErrCorrupt},
		{"SealTooEarly", Position{1, 2}, seal.encode(), ErrCorrupt},
		{"SealElsewhere", Position{1, 2}, skewed.encode(), ErrCorrupt},
		{"SealMissing", Position{1, 3}, nil, ErrCorrupt},
		{"DataMissing", Position{1, 1}, nil, ErrCorrupt},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := written(t)
			replace(t, b, SlotKey(0, test.pos), test.body)
			if end, err := Replay(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, test.want) {
				t.Errorf("Replay: up to %v, %v", end, err)
			}
			if _, err := Open(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, test.want) {
				t.Errorf("Open: %v", err)
			}
			if raw, err := b.Get(t.Context(), SlotKey(0, test.pos), 0, -1); err == nil && !bytes.Equal(raw, test.body) {
				t.Error("Open has put an object where one got lost")
			}
		})
	}
}

// TestTwin: a SEAL of this very epoch that this claim has not made.
func TestTwin(t *testing.T) {
	b := written(t)
	twin := sealObject(0, testClaim(3), Position{2, 2})
	replace(t, b, SlotKey(0, Position{2, 2}), twin.encode())
	if _, err := Open(t.Context(), Options{Bucket: b}, &book{}); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

func TestDamagedClaims(t *testing.T) {
	for _, test := range []struct {
		name, key string
		body      []byte
	}{
		{"Torn", claimKey(0, 3), testClaim(3).encode(0)[:20]},
		{"Misnamed", claimKey(0, 3), testClaim(4).encode(0)},
		{"Unnamed", claimPrefix(0) + "zzz", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := written(t)
			replace(t, b, test.key, append([]byte{}, test.body...))
			if c, _, err := NewestClaim(t.Context(), b, 0); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.key) {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

// TestForeign: another writer's object under this epoch's name is a bug, and
// stops the journal rather than being taken for a success or a SEAL.
func TestForeign(t *testing.T) {
	for _, test := range []struct {
		name string
		body func(own []byte) []byte
		want error
	}{
		{"OtherNonce", func([]byte) []byte {
			o := dataObject(0, testClaim(1), 1, nil)
			return o.encode()
		}, ErrForeign},
		{"OtherBytes", func(own []byte) []byte { own[len(own)-1]++; return rechecked(own) }, ErrForeign},
		{"SealOfOtherSlot", func([]byte) []byte {
			o := sealObject(0, testClaim(2), Position{1, 9})
			return o.encode()
		}, ErrForeign},
		{"Torn", func(own []byte) []byte { return own[:len(own)-1] }, ErrCorrupt},
		{"Seal", func([]byte) []byte {
			o := sealObject(0, testClaim(2), Position{1, 1})
			return o.encode()
		}, ErrFenced},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, s := mem.New(), &book{}
			j := open(t, b, s)
			list := entries("a")
			o := dataObject(0, j.claim, 1, list)
			replace(t, b, SlotKey(0, Position{1, 1}), test.body(o.encode()))
			if _, err := j.Write(list); err != nil {
				t.Fatal(err)
			}
			<-j.Done()
			if !errors.Is(j.Err(), test.want) {
				t.Errorf("got %v, want %v", j.Err(), test.want)
			}
			j.Close()
			s.has(t)
		})
	}
}

// TestStrangeCheckpoints: what nobody can read, or only a higher epoch can have
// written, ends a recovery, also when it appears during the walk. Where there is no
// claim of that epoch, it is missing: its number was given out again.
func TestStrangeCheckpoints(t *testing.T) {
	for _, test := range []struct {
		name, key    string
		open, replay error
	}{
		{"Damaged", checkpointKey(0, Position{2, 1}), ErrCorrupt, ErrCorrupt},
		{"OfThisEpoch", checkpointKey(0, Position{3, 1}), storage.ErrMissing, ErrCorrupt},
		{"OfLaterEpoch", checkpointKey(0, Position{4, 1}), ErrFenced, ErrCorrupt},
		{"OfEpochWithoutClaim", checkpointKey(0, Position{5, 1}), storage.ErrMissing, ErrCorrupt},
		{"BeforeHeader", checkpointKey(0, Position{2, 0}), ErrFormat, ErrFormat},
		{"Strange", "0000/checkpoint/root", ErrFormat, ErrFormat},
	} {
		for _, lists := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s-List%d", test.name, lists), func(t *testing.T) {
				late := func(b *mem.Bucket) storage.Bucket {
					return beforeList(b, lists, func() {
						if test.open == ErrFenced {
							replace(t, b, claimKey(0, 4), Claim{Epoch: 4, Node: "rival"}.encode(0))
						}
						replace(t, b, test.key, []byte("whatever"))
					})
				}
				_, err := Open(t.Context(), Options{Bucket: late(written(t))}, &book{})
				if !errors.Is(err, test.open) || !strings.Contains(err.Error(), test.key) {
					t.Errorf("Open: %v", err)
				}
				disk := written(t)
				if lists > 1 { // makes a replay list again
					replace(t, disk, tombstoneKey(0, beginning), []byte("whatever"))
				}
				_, err = Replay(t.Context(), Options{Bucket: late(disk)}, &book{})
				if !errors.Is(err, test.replay) || !strings.Contains(err.Error(), test.key) {
					t.Errorf("Replay: %v", err)
				}
			})
		}
	}
}

// beforeList does something before the nth List of checkpoints.
func beforeList(b storage.Bucket, n int, do func()) *storagetest.Faults {
	way, seen := storagetest.NewFaults(b, 1), 0
	way.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.List && c.Keys[0] == checkpointPrefix(0) {
			if seen++; seen == n {
				do()
			}
		}
		return storagetest.Outcome{}
	})
	return way
}

// vanishing answers the first SEAL with ErrExists though nothing is there, as a
// bucket does when the object is deleted between two calls.
type vanishing struct {
	storage.Bucket
	times int
}

func (v *vanishing) Create(ctx context.Context, key string, body []byte) error {
	if o, err := decode(body); err == nil && o.typ == typeSeal && v.times > 0 {
		v.times--
		return storage.ErrExists
	}
	return v.Bucket.Create(ctx, key, body)
}

func TestSealVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, s := written(t), &book{}
		start := time.Now()
		closeClean(t, open(t, &vanishing{b, 3}, s))
		if time.Since(start) == 0 {
			t.Error("no pause between the attempts")
		}
		s.has(t, "1/1:a", "1/2:b", "2/1:c")
	})
}

// TestSlotVanishes: what the owner met and cannot find again was deleted by a
// successor.
func TestSlotVanishes(t *testing.T) {
	b, s := mem.New(), &book{}
	j := open(t, b, s)
	j.store.bucket = gone{b}
	write(t, j, "a")
	<-j.Done()
	if !errors.Is(j.Err(), ErrFenced) {
		t.Error(j.Err())
	}
	j.Close()
	s.has(t)
}

type gone struct{ storage.Bucket }

func (gone) Create(context.Context, string, []byte) error { return storage.ErrExists }

// TestUnknownWrites: the same bytes go out again until the outcome is known.
func TestUnknownWrites(t *testing.T) {
	for _, fate := range storagetest.Fates() {
		t.Run(fate.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk, s := mem.New(), &book{}
				way := storagetest.NewFaults(disk, 1)
				j := open(t, way, s)
				tries := 0
				way.Plan(func(c storagetest.Call) storagetest.Outcome {
					if tries++; c.Verb == storagetest.Create && tries <= 4 {
						return storagetest.Outcome{Fate: fate}
					}
					return storagetest.Outcome{}
				})
				write(t, j, "a")
				time.Sleep(time.Minute)
				s.has(t, "1/1:a")
				before := read(t, disk, SlotKey(0, Position{1, 1}))
				way.Land()
				if after := read(t, disk, SlotKey(0, Position{1, 1})); !bytes.Equal(before, after) {
					t.Error("the object changed")
				}
				closeClean(t, j)
				s.has(t, "1/1:a")
			})
		})
	}
}

// TestBucketDown: an owner that cannot reach the bucket stays, acknowledges
// nothing and goes on where it was.
func TestBucketDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way, s := storagetest.NewFaults(mem.New(), 1), &book{}
		j := open(t, way, s)
		way.Plan(func(storagetest.Call) storagetest.Outcome { return storagetest.Outcome{Fate: storagetest.Fail} })
		write(t, j, "a")
		write(t, j, "b")
		calls := way.Calls()
		time.Sleep(time.Hour)
		s.has(t)
		if n := way.Calls() - calls; n < 2*3600/5 || n > 2*2*3600/5 {
			t.Errorf("%d calls in an hour", n)
		}
		way.Plan(nil)
		time.Sleep(time.Minute)
		s.has(t, "1/1:a", "1/2:b")
		closeClean(t, j)
	})
}

// TestDamagedStore: a bucket that says that it is damaged is not asked again.
// Owner and reader end, with what the bucket said.
func TestDamagedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broken{written(t)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, open := Open(ctx, Options{Bucket: b}, &book{})
		_, replay := Replay(ctx, Options{Bucket: b}, &book{})
		for verb, err := range map[string]error{"Open": open, "Replay": replay} {
			if !errors.Is(err, storage.ErrDamaged) || ctx.Err() != nil {
				t.Errorf("%s: %v, want ErrDamaged at once", verb, err)
			}
		}
	})
}

// broken is a bucket that is damaged where the slots of epoch 2 are.
type broken struct{ storage.Bucket }

func (b broken) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if strings.HasPrefix(key, SlotKey(0, Position{2, 0})[:len("0000/log/")+digits]) {
		return nil, fmt.Errorf("get %s: %w", key, storage.ErrDamaged)
	}
	return b.Bucket.Get(ctx, key, off, n)
}
