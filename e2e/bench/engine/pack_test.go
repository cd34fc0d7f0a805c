package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/segment"
)

// pack is a bucket that has the segments of one epoch in one file, one behind the
// other, and everything else in another bucket. A million segments take neither a
// million files nor much of the memory that is to be measured.
type pack struct {
	storage.Bucket
	path  string
	epoch uint64

	mu   sync.Mutex
	next sync.Cond // on mu: a segment was added
	f    *os.File
	out  *bufio.Writer // guarded by mu
	ends []int64       // guarded by mu: where each segment ends in the file, from number 1 on
}

func (p *pack) Unwrap() storage.Bucket { return p.Bucket }

// createPack begins an empty one, for the segments of the log's first owner.
func createPack(path string, rest storage.Bucket) (*pack, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	p := &pack{Bucket: rest, path: path, epoch: 1, f: f, out: bufio.NewWriterSize(f, 1<<20)}
	p.next.L = &p.mu
	return p, nil
}

// save keeps the pack for openPack.
func (p *pack) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ends, err := json.Marshal(p.ends)
	if err != nil {
		return err
	}
	return errors.Join(p.out.Flush(), p.f.Close(), os.WriteFile(p.path+".ends", ends, 0o600))
}

func openPack(path string, rest storage.Bucket) (*pack, error) {
	raw, err := os.ReadFile(path + ".ends")
	if err != nil {
		return nil, err
	}
	p := &pack{Bucket: rest, path: path, epoch: 1}
	if err := json.Unmarshal(raw, &p.ends); err != nil {
		return nil, fmt.Errorf("read %s.ends: %w", path, err)
	}
	p.f, err = os.Open(path)
	return p, err
}

// number of a segment of the pack, 0 for any other key.
func (p *pack) number(key string) int {
	number, found := strings.CutPrefix(key, segment.Prefix(0, p.epoch))
	n, err := strconv.Atoi(number)
	if !found || err != nil {
		return 0
	}
	return n
}

func (p *pack) Create(ctx context.Context, key string, body []byte) error {
	n := p.number(key)
	if n == 0 {
		return p.Bucket.Create(ctx, key, body)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n > len(p.ends)+1 { // some are stored at once
		p.next.Wait()
	}
	if n <= len(p.ends) {
		return fmt.Errorf("create %s: %w", key, storage.ErrExists)
	}
	begin := int64(0)
	if n > 1 {
		begin = p.ends[n-2]
	}
	p.ends = append(p.ends, begin+int64(len(body)))
	p.next.Broadcast()
	_, err := p.out.Write(body)
	return err
}

func (p *pack) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	number := p.number(key)
	if number == 0 {
		return p.Bucket.Get(ctx, key, off, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if number > len(p.ends) {
		return nil, fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
	}
	begin := int64(0)
	if number > 1 {
		begin = p.ends[number-2]
	}
	off, n, err := storage.Range(p.ends[number-1]-begin, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	body := make([]byte, n)
	_, err = p.f.ReadAt(body, begin+off)
	return body, err
}

// List of the pack's segments: those that a new owner looks for, to delete what
// was never installed.
func (p *pack) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if prefix != segment.Prefix(0, p.epoch) {
		return p.Bucket.List(ctx, prefix, after, max)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var keys []string
	for n := p.number(after) + 1; n <= len(p.ends) && len(keys) < max; n++ {
		keys = append(keys, segment.Key(0, p.epoch, uint64(n)))
	}
	return keys, nil
}

func (p *pack) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if p.number(key) > 0 {
			return fmt.Errorf("delete %s: nothing leaves a pack", key)
		}
	}
	return p.Bucket.Delete(ctx, keys...)
}
