package absence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// writer is a node that writes, rewrites and deletes while its bucket is copied. It
// acts when the copier lets it, so that a seed repeats the order of the steps of both.
type writer struct {
	builder
	r      *rand.Rand
	lives  int
	acts   int
	passes int // of the upkeep
	bucket *gate
	node   *node
}

// newWriter begins a writer in an empty home.
func newWriter(ctx context.Context, h home, r *rand.Rand) (*writer, error) {
	w := &writer{builder: builder{home: h, w: &world{older: map[string][]byte{}}}, r: r}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	return w, w.found(ctx, w.node)
}

func (w *writer) start(ctx context.Context) error {
	w.lives++
	below, err := w.home.open()
	if err != nil {
		return err
	}
	w.bucket = &gate{Bucket: below}
	if w.node, err = boot(ctx, w.bucket, fmt.Sprint("writer-", w.lives), w.lives%2); err != nil {
		return err
	}
	w.w.authority, w.w.cluster = w.node.ca.Certificate().Raw, w.node.log.ClusterID()
	return nil
}

// end ends the writer, as by SIGKILL or SIGTERM.
func (w *writer) end(how ending) error {
	if how == killed {
		w.bucket.shut.Store(true)
	}
	if err := w.node.shard.Close(); err != nil && how == closed {
		return err
	}
	return storage.Close(w.bucket.Bucket)
}

// act does one thing: mostly it appends, sometimes it makes a pass of the upkeep,
// or another process takes over.
func (w *writer) act(ctx context.Context) error {
	w.acts++
	switch n := w.r.IntN(200); {
	case n == 0:
		how := killed
		if w.r.IntN(2) == 0 {
			how = closed
		}
		return errors.Join(w.end(how), w.start(ctx))
	case n < 10:
		w.passes++
		return w.maintain(ctx, w.node)
	}
	value := fmt.Sprint("act-", w.acts, strings.Repeat("x", w.r.IntN(20_000)))
	return w.note(w.node.append(ctx, w.w.places[w.r.IntN(len(w.w.places))], value))
}

// copier copies the content of a home, piece by piece, and lets the writer act between.
type copier struct {
	w        *writer
	r        *rand.Rand
	speed    float64 // acts of the writer for each piece
	shuffled bool    // in random order, else in that of the folders or keys
	owed     float64
	vanished int // names that were listed, but gone when it was their turn: a copying tool reports them
}

// pause lets the writer act as many times as speed says.
func (c *copier) pause(ctx context.Context) error {
	for c.owed += c.speed; c.owed >= 1; c.owed-- {
		if err := c.w.act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// order returns the order in which names are copied: that of the folder, or a random one.
func (c *copier) order(names []string) []string {
	if c.shuffled {
		c.r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	}
	return names
}

// files copies a folder as cp -r does: it lists each folder when it comes to it,
// and leaves out files that are gone by the time that it opens them.
func (c *copier) files(ctx context.Context, root, folder string, img image) error {
	dir, err := os.Open(filepath.Join(root, folder))
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, name := range c.order(names) {
		name = filepath.Join(folder, name)
		if name == ".lock" || name == ".tmp" {
			continue
		}
		info, err := os.Stat(filepath.Join(root, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.vanished++
			continue
		case err != nil:
			return err
		case info.IsDir():
			err = c.files(ctx, root, name, img)
		default:
			err = c.file(ctx, root, name, img)
		}
		if err := errors.Join(err, c.pause(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// file copies a file in pieces.
func (c *copier) file(ctx context.Context, root, name string, img image) error {
	f, err := os.Open(filepath.Join(root, name))
	if errors.Is(err, fs.ErrNotExist) {
		c.vanished++
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	body := []byte{}
	for {
		piece := make([]byte, 128<<10)
		n, err := io.ReadFull(f, piece)
		body = append(body, piece[:n]...)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			img[name] = body
			return nil
		}
		if err := errors.Join(err, c.pause(ctx)); err != nil {
			return err
		}
	}
}

// objects copies a bucket by its listing.
func (c *copier) objects(ctx context.Context, b storage.Bucket, img image) error {
	var names []string
	for last := ""; ; {
		keys, err := b.List(ctx, "", last, 20)
		if err := errors.Join(err, c.pause(ctx)); err != nil {
			return err
		}
		names = append(names, keys...)
		if len(keys) < 20 {
			break
		}
		last = keys[len(keys)-1]
	}
	for _, key := range c.order(names) {
		switch body, err := b.Get(ctx, key, 0, -1); {
		case errors.Is(err, fs.ErrNotExist):
			c.vanished++
		case err != nil:
			return err
		default:
			img[key] = body
		}
		if err := c.pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// live says how a test copies.
type live struct {
	kind kind
	home func() home
	copy func(ctx context.Context, c *copier, img image) error
}

// take lets a writer write until a random moment and copies then. It returns the
// copy as a world that promises all that was acknowledged before, how many
// passes of the upkeep there were meanwhile, and how many names disappeared.
func (l live) take(ctx context.Context, w *writer, r *rand.Rand, speed float64, shuffled bool) (promised *world, passes, vanished int, err error) {
	for range r.IntN(40) {
		if err := w.act(ctx); err != nil {
			return nil, 0, 0, err
		}
	}
	passes = w.passes
	copied := *w.w
	promised = &copied
	promised.written = slices.Clone(w.w.written)
	promised.image = image{}
	c := &copier{w: w, r: r, speed: speed, shuffled: shuffled}
	err = l.copy(ctx, c, promised.image)
	return promised, w.passes - passes, c.vanished, err
}

// TestLiveCopy: a copy that is taken while a node writes, rewrites and deletes has
// all that was acknowledged before it began, or the node refuses it.
func TestLiveCopy(t *testing.T) {
	s := seed(t)
	dir := fast(t)
	rounds, perWriter := 1, 8
	if soak() {
		rounds = 200 / perWriter
	}
	homes := 0
	for _, l := range []live{
		{inFolders(dir),
			func() home { homes++; return folder(filepath.Join(dir, fmt.Sprint("live-", homes))) },
			func(ctx context.Context, c *copier, img image) error {
				return c.files(ctx, string(c.w.home.(folder)), "", img)
			}},
		{inMemory(),
			func() home { return memory{mem.New()} },
			func(ctx context.Context, c *copier, img image) error {
				return c.objects(ctx, c.w.home.(memory).b, img)
			}},
	} {
		t.Run(l.kind.name, func(t *testing.T) {
			began, outcomes, n := time.Now(), map[string]int{}, 0
			for _, speed := range []float64{0.05, 0.3, 1.5} {
				for round := range rounds {
					r := rand.New(rand.NewPCG(s, uint64(round)<<8|uint64(speed*100)))
					for _, o := range l.round(t, r, perWriter, speed, &n) {
						outcomes[fmt.Sprintf("speed %4.2f: %s", speed, o)]++
					}
				}
			}
			t.Logf("%d copies in %v", n, time.Since(began).Round(time.Millisecond))
			for o, n := range outcomes {
				t.Logf("%6d %s", n, o)
			}
		})
	}
}

// round makes copies of one writer's bucket and judges them.
func (l live) round(t *testing.T, r *rand.Rand, copies int, speed float64, n *int) (outcomes []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	h := l.home()
	w, err := newWriter(ctx, h, r)
	if err != nil {
		t.Fatalf("begin to write: %v", err)
	}
	for i := range copies {
		*n++
		shuffled := i%2 == 1
		promised, passes, vanished, err := l.take(ctx, w, r, speed, shuffled)
		if err != nil {
			t.Fatalf("copy %d: %v", *n, err)
		}
		e := excuse{}
		if passes > 1 && vanished > 0 {
			e = excuse{longCopy, len(promised.written) - promised.maintained}
		}
		j, err := promised.play(ctx, l.kind, *n, nil, e, r)
		if err != nil {
			t.Fatalf("copy %d: %v", *n, err)
		}
		outcomes = append(outcomes, j.outcome)
		for _, p := range j.problems {
			t.Errorf("copy %d, speed %v, shuffled %v, %d passes, %d names vanished: %s", *n, speed, shuffled, passes, vanished, p)
		}
	}
	if err := w.end(killed); err != nil {
		t.Errorf("end: %v", err)
	}
	if f, ok := h.(folder); ok {
		if err := os.RemoveAll(string(f)); err != nil {
			t.Error(err)
		}
	}
	return outcomes
}

func soak() bool { return os.Getenv("WEIR_SOAK") != "" }
