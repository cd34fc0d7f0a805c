package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/row"
)

// List implements storage.Bucket. Each page reads every folder whose keys can be on it.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := storage.CheckList(prefix, after); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	l := listing{b: b, prefix: prefix, after: after, max: max}
	if err := l.walk(ctx, ""); err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	return l.keys, nil
}

type listing struct {
	b             *Bucket
	prefix, after string
	max           int
	keys          []string // found so far, in order
}

// walk adds the keys in a folder, given as "" or "a/b/".
func (l *listing) walk(ctx context.Context, folder string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	names, err := l.names(folder)
	if err != nil {
		return err
	}
	if name := strings.TrimSuffix(folder, "/"); row.MayBe(name) {
		packed, err := l.b.rows.Names(ctx, name)
		if err != nil {
			return err
		}
		for _, name := range packed {
			if l.wants(folder + name) {
				names = append(names, name)
			}
		}
	}
	// A folder is sorted by its name with the slash, as its keys are: a-b < a/b < a0.
	slices.Sort(names)
	names = slices.Compact(names) // a name that was deleted and created meanwhile
	for _, name := range names {
		if len(l.keys) >= l.max {
			return nil
		}
		if !strings.HasSuffix(name, "/") {
			l.keys = append(l.keys, folder+name)
		} else if err := l.walk(ctx, folder+name); err != nil {
			return err
		}
	}
	return nil
}

// names returns what is in a folder and may be on the page; folders have a slash at the
// end. A folder that does not exist is empty.
func (l *listing) names(folder string) ([]string, error) {
	dir, err := os.Open(l.b.disk.Path(folder))
	if errors.Is(err, fs.ErrNotExist) && folder != "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var names []string
	own := func(string) bool { return false }
	if row.MayBe(strings.TrimSuffix(folder, "/")) {
		own = row.Reserved
	}
	for {
		entries, err := dir.ReadDir(1024)
		for _, entry := range entries {
			name := entry.Name()
			switch {
			case hidden(name) || own(name):
			case entry.IsDir() && l.holds(folder+name+"/"):
				names = append(names, name+"/")
			case entry.Type().IsRegular() && l.wants(folder+name):
				names = append(names, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// wants reports whether key is one that was asked for.
func (l *listing) wants(key string) bool {
	return key > l.after && strings.HasPrefix(key, l.prefix)
}

// holds reports whether a folder can have such keys below it.
func (l *listing) holds(folder string) bool {
	if !strings.HasPrefix(folder, l.prefix) && !strings.HasPrefix(l.prefix, folder) {
		return false
	}
	return folder > l.after || strings.HasPrefix(l.after, folder)
}
