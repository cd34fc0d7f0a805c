package hdfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/weirmq/weir/storage"
)

// List implements storage.Bucket. The namenode returns the names in a folder in byte
// order, in pages of its own size (1,000, or dfs.ls.limit) that begin after any name.
// That is not the order of the keys: a folder a is sorted with the slash, as its keys
// are, and so behind the names a-b and a.b. It has to wait for its turn, see walk.
//
// A page costs a request for every folder that has keys on it, for every thousand
// names, and for each folder that may end behind after: see start.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := cmp.Or(storage.CheckList(prefix, after), ctx.Err()); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	l := listing{names: b.names, prefix: prefix, after: after, max: max}
	folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
	if l.holds(folder) {
		if err := l.walk(ctx, folder); err != nil {
			return nil, fmt.Errorf("list %q: %w", prefix, err)
		}
	}
	return l.keys, nil
}

// names returns the names in a folder, given as "" or "a/b/", that are greater
// than after, and whether there are more. A folder that is not there has none.
func (b *Bucket) names(ctx context.Context, folder, after string) (names []fileStatus, more bool, err error) {
	var answer struct {
		DirectoryListing struct {
			PartialListing struct {
				FileStatuses struct{ FileStatus []fileStatus }
			}
			RemainingEntries int
		}
	}
	name := strings.TrimSuffix(b.path(folder), "/")
	err = missing(b.client.call(ctx, http.MethodGet, name, "LISTSTATUS_BATCH", params{"startAfter": after}, &answer))
	if errors.Is(err, fs.ErrNotExist) && folder != "" {
		return nil, false, nil
	}
	names = answer.DirectoryListing.PartialListing.FileStatuses.FileStatus
	return names, answer.DirectoryListing.RemainingEntries > 0 && len(names) > 0, err
}

type listing struct {
	names         func(ctx context.Context, folder, after string) ([]fileStatus, bool, error)
	prefix, after string
	max           int
	keys          []string // found so far, in order
}

// walk adds the keys in a folder, given as "" or "a/b/".
//
// waiting holds the folders in it that were found and whose turn has not come: each
// begins with the one before it, so the last one is visited first.
func (l *listing) walk(ctx context.Context, folder string) error {
	last, waiting := l.start(folder)
	for more := true; more; {
		var names []fileStatus
		var err error
		if names, more, err = l.names(ctx, folder, last); err != nil {
			return err
		}
		for _, status := range names {
			name := status.PathSuffix
			if waiting, err = l.visit(ctx, folder, waiting, name); err != nil || l.full() {
				return err
			}
			switch {
			case storage.CheckKey(name) != nil: // .tmp, or not ours
			case status.Type == "DIRECTORY" && l.holds(folder+name+"/"):
				waiting = append(waiting, name)
			case status.Type == "FILE" && l.wants(folder+name):
				l.keys = append(l.keys, folder+name)
			}
			if l.full() {
				return nil
			}
			last = name
		}
		more = more && !l.beyond(folder+last)
	}
	_, err := l.visit(ctx, folder, waiting, "")
	return err
}

// visit walks through those of the waiting folders that come before a name, or through
// all if it is empty, and returns the others.
func (l *listing) visit(ctx context.Context, folder string, waiting []string, name string) ([]string, error) {
	for len(waiting) > 0 && !l.full() {
		next := waiting[len(waiting)-1] + "/"
		if name != "" && next > name {
			break
		}
		if err := l.walk(ctx, folder+next); err != nil {
			return nil, err
		}
		waiting = waiting[:len(waiting)-1]
	}
	return waiting, nil
}

// start returns the name after which a walk through a folder begins: just before the
// next element of l.after, which may be a folder. Some folders sort before that name
// and can still have keys after l.after: those of which it is a continuation with a
// byte before the slash (a, if it is a-b). Whether they exist is not known yet.
func (l *listing) start(folder string) (name string, waiting []string) {
	if rest, found := strings.CutPrefix(l.prefix, folder); found {
		name = justBefore(rest)
	}
	rest, found := strings.CutPrefix(l.after, folder)
	if !found {
		return name, nil
	}
	element, _, _ := strings.Cut(rest, "/")
	for i, c := range []byte(element) {
		if i > 0 && c < '/' && l.holds(folder+element[:i]+"/") {
			waiting = append(waiting, element[:i])
		}
	}
	return max(name, justBefore(element)), waiting
}

// justBefore returns a string that is less than name, with no name of keys between
// them: the last byte is lowered, followed by a byte that no key has.
func justBefore(name string) string {
	if name == "" {
		return ""
	}
	end := len(name) - 1
	lower := name[end] - 1
	if lower == '/' {
		lower = '.'
	}
	return name[:end] + string(rune(lower)) + "~"
}

func (l *listing) full() bool { return len(l.keys) >= l.max }

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

// beyond reports whether neither key nor any greater one was asked for.
func (l *listing) beyond(key string) bool {
	return key > l.prefix && !strings.HasPrefix(key, l.prefix)
}
