package edge

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// harms are what happens to a file of a gateway's data directory.
var harms = map[string]func(rng *rand.Rand, path, old string) error{
	"deleted": func(_ *rand.Rand, path, _ string) error { return os.RemoveAll(path) },
	"emptied": func(_ *rand.Rand, path, _ string) error {
		if st, err := os.Stat(path); err != nil || !st.IsDir() {
			return os.Truncate(path, 0)
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		return os.Mkdir(path, 0o750)
	},
	"cut": func(rng *rand.Rand, path, _ string) error {
		st, err := os.Stat(path)
		if err != nil || st.IsDir() || st.Size() == 0 {
			return err
		}
		return os.Truncate(path, rng.Int64N(st.Size()))
	},
	"flipped": func(rng *rand.Rand, path, _ string) error {
		body, err := os.ReadFile(path)
		if err != nil || len(body) == 0 {
			return nil // a folder
		}
		body[rng.IntN(len(body))] ^= 1 << rng.IntN(8)
		return os.WriteFile(path, body, 0o600)
	},
	"of a newer version": func(_ *rand.Rand, path, _ string) error {
		body, err := os.ReadFile(path)
		if err != nil || len(body) < 8 {
			return nil
		}
		body[7] ^= 8 // where the session state has its version
		return os.WriteFile(path, body, 0o600)
	},
	"older": func(_ *rand.Rand, path, old string) error {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		st, err := os.Stat(old)
		if err != nil {
			return nil // there was none
		}
		if st.IsDir() {
			return os.CopyFS(path, os.DirFS(old))
		}
		body, err := os.ReadFile(old)
		if err != nil {
			return err
		}
		return os.WriteFile(path, body, 0o600)
	},
}

// harmed is one cell of the matrix: what happens to a file of the data directory.
type harmed struct{ name, how string }

// dataFixture is a data directory at rest, and a copy of what it was before.
type dataFixture struct {
	n         *node
	base, old string
	rng       *rand.Rand
}

// TestAbsence: whatever happens to the files of the data directory, alone and in
// pairs, the gateway starts and takes messages. What becomes of the log's own files
// is edge/wal's to test.
func TestAbsence(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f := &dataFixture{newNode(t), t.TempDir(), filepath.Join(t.TempDir(), "old"), rand.New(rand.NewPCG(seed, 0))}
	for round := range 2 {
		g, stop := f.start(t, f.base)
		g.await(SyncConnected, "")
		publish(t, g, "device")
		stop()
		if round == 0 {
			if err := os.CopyFS(f.old, os.DirFS(f.base)); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(f.base)
	if err != nil {
		t.Fatal(err)
	}
	var cells []harmed
	for _, e := range entries {
		for _, how := range slices.Sorted(maps.Keys(harms)) {
			cells = append(cells, harmed{e.Name(), how})
		}
	}
	for _, c := range cells {
		f.play(t, c)
	}
	for range 30 {
		f.play(t, cells[f.rng.IntN(len(cells))], cells[f.rng.IntN(len(cells))])
	}
}

func (f *dataFixture) start(t *testing.T, dir string) (*gatewayUnder, func()) {
	return start(t, dir, Options{Cloud: []string{f.n.addr}, Join: f.n.token.Reveal()})
}

// play lets things happen to a copy of the data directory, and starts a gateway
// there.
func (f *dataFixture) play(t *testing.T, all ...harmed) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(f.base)); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		path := filepath.Join(dir, c.name)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if err := harms[c.how](f.rng, path, filepath.Join(f.old, c.name)); err != nil {
			t.Fatalf("%v: %v", c, err)
		}
	}
	t.Run(fmt.Sprint(all), func(t *testing.T) {
		g, stop := f.start(t, dir)
		publish(t, g, "device")
		stop()
		gone := slices.Contains([]harmed{{"log", "deleted"}, {"log", "emptied"}}, all[0])
		if said := g.logs.count("the local log is missing"); len(all) == 1 && gone != (said == 1) {
			t.Errorf("it says %d times that the log is gone: %s", said, g.logs.b.String())
		}
	})
}

// publish sends a message at QoS 1 from a persistent session, and waits for its
// acknowledgement.
func publish(t *testing.T, g *gatewayUnder, client string) {
	t.Helper()
	c, err := tryPublish(t, g, client)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// tryPublish is publish for callers that expect that it may be refused.
func tryPublish(t *testing.T, g *gatewayUnder, client string) (net.Conn, error) {
	t.Helper()
	c, err := net.Dial("tcp", g.listeners["mqtt"].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	connect := append([]byte{0x10, byte(12 + len(client)), 0, 4, 'M', 'Q', 'T', 'T', 4, 0, 0, 60, 0, byte(len(client))}, client...)
	answer := make([]byte, 4)
	if _, err := c.Write(connect); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 0x20 || answer[3] != 0 {
		t.Fatalf("CONNACK %x, %v", answer, err)
	}
	if _, err := c.Write([]byte("\x32\x08\x00\x03a/b\x00\x07v")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, []byte{0x40, 2, 0, 7}) {
		return c, fmt.Errorf("PUBACK %x: %w", answer, cmp.Or(err, io.ErrUnexpectedEOF))
	}
	return c, nil
}
