package hdfs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// tree is a namenode's view of a set of keys.
type tree struct {
	folders  map[string][]fileStatus // "" or "a/b/" -> what is in it, in byte order
	limit    int                     // names on a page
	requests int
}

func newTree(keys []string, limit int) *tree {
	t := &tree{folders: map[string][]fileStatus{"": nil}, limit: limit}
	for _, key := range keys {
		for rest, folder := key, ""; rest != ""; {
			name, below, isFolder := strings.Cut(rest, "/")
			entry := fileStatus{PathSuffix: name, Type: "FILE"}
			if isFolder {
				entry.Type = "DIRECTORY"
			}
			if !slices.Contains(t.folders[folder], entry) {
				t.folders[folder] = append(t.folders[folder], entry)
			}
			rest, folder = below, folder+name+"/"
		}
	}
	for _, entries := range t.folders {
		slices.SortFunc(entries, func(a, b fileStatus) int { return strings.Compare(a.PathSuffix, b.PathSuffix) })
	}
	return t
}

// names gives what LISTSTATUS_BATCH does; of a file that is the file itself,
// without a name.
func (t *tree) names(_ context.Context, folder, after string) ([]fileStatus, bool, error) {
	t.requests++
	entries, found := t.folders[folder]
	if !found {
		parent, name := "", strings.TrimSuffix(folder, "/")
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			parent, name = name[:i+1], name[i+1:]
		}
		if slices.Contains(t.folders[parent], fileStatus{PathSuffix: name, Type: "FILE"}) {
			return []fileStatus{{Type: "FILE"}}, false, nil
		}
		return nil, false, nil
	}
	i := slices.IndexFunc(entries, func(e fileStatus) bool { return e.PathSuffix > after })
	if i < 0 {
		return nil, false, nil
	}
	end := min(i+t.limit, len(entries))
	return entries[i:end], end < len(entries), nil
}

func (t *tree) list(prefix, after string, max int) ([]string, error) {
	l := listing{names: t.names, prefix: prefix, after: after, max: max}
	if folder := prefix[:strings.LastIndexByte(prefix, '/')+1]; l.holds(folder) {
		if err := l.walk(context.Background(), folder); err != nil {
			return nil, err
		}
	}
	return l.keys, nil
}

// randomKeys returns keys of few different bytes, which are those around the
// slash, none of which is the folder of another.
func randomKeys(rng *rand.Rand) (keys []string) {
	const bytes = "-.0a/"
	for range 1 + rng.IntN(40) {
		key := []byte{"-0a"[rng.IntN(3)]}
		for range rng.IntN(6) {
			key = append(key, bytes[rng.IntN(len(bytes))])
		}
		if folderOf := func(k string) bool {
			return k == string(key) || strings.HasPrefix(k, string(key)+"/") || strings.HasPrefix(string(key), k+"/")
		}; valid(string(key)) && !slices.ContainsFunc(keys, folderOf) {
			keys = append(keys, string(key))
		}
	}
	return keys
}

func valid(key string) bool {
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element[0] == '.' {
			return false
		}
	}
	return true
}

// TestListModel compares listings of random trees with sorted keys.
func TestListModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		keys := append(randomKeys(rng), ".tmp/x")
		tree := newTree(keys, 1+rng.IntN(4))
		keys = keys[:len(keys)-1]
		slices.Sort(keys)

		// Prefixes and starts that cut what is there anywhere, and others.
		pick := func() string {
			source := append(randomKeys(rng), append(keys, "", "0", "~")...)
			key := source[rng.IntN(len(source))]
			return key[:rng.IntN(len(key)+1)]
		}
		prefix, after, max := pick(), pick(), 1+rng.IntN(10)
		var want []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) && key > after && len(want) < max {
				want = append(want, key)
			}
		}
		got, err := tree.list(prefix, after, max)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("List(%q, %q, %d) = %q, %v, want %q, of %q in pages of %d", prefix, after, max, got, err, want, keys, tree.limit)
		}
	}
}

// TestListRequests: a page costs what is on it, and not what is before or behind
// it, in the whole tree.
func TestListRequests(t *testing.T) {
	var keys []string
	for i := range 50 {
		for j := range 50 {
			keys = append(keys, fmt.Sprintf("0001/log/%04d/%04d", i, j))
		}
		keys = append(keys, fmt.Sprintf("0001/checkpoint/%04d-%04d", i, i))
	}
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("a-%04d", i))
	}
	tree := newTree(append(keys, "a/0"), 20)
	for _, test := range []struct {
		prefix, after string
		max, requests int
	}{
		{"0001/log/", "", 10, 2}, // log, log/0000
		{"0001/log/0030/", "", 10, 1},
		{"0001/log/0030/", "0001/log/0030/0020", 10, 1},
		{"0001/log/", "0001/log/0030/0045", 10, 3}, // log, log/0030, log/0031
		{"0001/log/0030", "", 10, 2},               // log, log/0030
		{"0001/checkpoint/", "", 10, 1},
		{"0001/checkpoint/", "0001/checkpoint/0040-0040", 5, 2}, // and checkpoint/0040, which is not there
		{"a", "a-0500", 10, 1},
		{"a", "a-0998", 10, 2}, // and a
		{"a-01", "", 1000, 6},  // five, and one that shows the end
		{"b", "", 10, 1},
		{"a", "b", 10, 1},
		{"0001/", "1", 10, 0},
	} {
		tree.requests = 0
		if _, err := tree.list(test.prefix, test.after, test.max); err != nil {
			t.Fatal(err)
		}
		if tree.requests > test.requests {
			t.Errorf("List(%q, %q, %d) took %d requests, want %d", test.prefix, test.after, test.max, tree.requests, test.requests)
		}
	}
}
