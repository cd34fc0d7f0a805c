package wal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/coding"
)

const (
	letterFile  = 256 << 10 // bytes of a file before the next one is begun, unless the quota is small
	letterFloor = 1 << 10   // least bytes that a letter counts, because it takes memory as well

	lettersMost = 128 << 20 // bytes of all letters, unless Options say otherwise
	clientMost  = 1 << 20   // bytes of the letters of one client, likewise
)

// Letter is a message that the gateway itself refused for good. Dead letters, in
// contrast, are records that the cloud refused.
type Letter struct {
	Seq     uint64 // number of the letter, counted from 1
	Client  string
	Topic   string // MQTT topic
	QoS     byte
	Time    int64 // ms since 1970
	Reason  string
	Payload []byte
	Size    int64  // bytes of the payload as it was sent
	Hash    []byte // SHA-256 of the whole payload if Payload has only its beginning; else nil
}

// charge returns how many bytes of the quotas a letter takes.
func (l *Letter) charge() int64 {
	return max(letterFloor, int64(64+len(l.Client)+len(l.Topic)+len(l.Reason)+len(l.Payload)+len(l.Hash)))
}

// Letters are the refused letters. They lie in numbered files. Each file is appended to
// by one open only. Each client has a quota of bytes, above which its own oldest letters
// are evicted. If all letters exceed the total quota, the oldest of all are evicted.
//
// Letters of a client are counted in shares: its letters of one file. A share is evicted
// as a whole. The files do not say which shares are evicted: a start counts all letters
// again, in the same order, and gets the same result. If files have gone meanwhile it
// may keep more letters, never fewer.
type Letters struct {
	log       *slog.Logger
	quota     int64 // bytes of all letters
	perClient int64

	mu      sync.Mutex
	files   letterFiles
	loaded  bool
	counts  []*letters // the letters of each file, oldest first
	clients map[clientKey]int64
	next    uint64 // number of the next letter
	stored  seqSet
	evicted uint64 // letters evicted for newer ones, since Open
}

// clientKey is a hash of a client id, which may be long.
type clientKey [16]byte

func keyOf(client string) clientKey {
	sum := sha256.Sum256([]byte(client))
	return clientKey(sum[:])
}

// letters counts the letters of one file.
type letters struct {
	number uint64
	size   int64 // charge of all letters, including evicted ones
	shares map[clientKey]*share
}

// share counts the letters of a client in one file.
type share struct {
	bytes  int64
	count  uint64
	before uint64 // letters with a lower number are evicted
}

func (f *letters) live() bool {
	for _, s := range f.shares {
		if s.count > 0 {
			return true
		}
	}
	return false
}

// Eviction says which letters are evicted for a new one.
type Eviction struct {
	Client  string // whose letters; "" for the oldest of all clients
	Letters uint64
	By      uint64 // number of the new letter
}

// Letters returns the log's refused letters.
func (l *Log) Letters() *Letters { return &l.letters }

// Next returns the number that the next letter gets. The others follow it one by one.
func (l *Letters) Next() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.load()
	return l.next, err
}

// Stored reports whether the letter was durable. After a restart it may report false for
// an evicted letter.
func (l *Letters) Stored(seq uint64) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.load()
	return l.stored.has(seq), err
}

// Evictions returns which letters will be evicted when the batch is added. They must be
// reported, durably, before that. Evictions changes nothing.
func (l *Letters) Evictions(batch []Letter) ([]Eviction, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil || l.fits(batch) {
		return nil, err
	}
	trial := l.clone()
	var out []Eviction
	for rest, open := batch, l.files.file != nil; len(rest) > 0; open = true {
		if !open || trial.full() {
			trial.push()
		}
		n := trial.fill(rest)
		for i := range rest[:n] {
			if gone := trial.count(&rest[i]); gone > 0 {
				out = append(out, Eviction{rest[i].Client, gone, rest[i].Seq})
			}
		}
		rest = rest[n:]
	}
	if n := letterCount(trial.surplus()); n > 0 {
		out = append(out, Eviction{Letters: n, By: batch[len(batch)-1].Seq})
	}
	return out, nil
}

// fits reports whether the batch can be added without evictions.
func (l *Letters) fits(batch []Letter) bool {
	more, all := make(map[clientKey]int64), l.bytes()
	for i := range batch {
		k, n := keyOf(batch[i].Client), batch[i].charge()
		more[k] += n
		if all += n; all > l.quota || l.clients[k]+more[k] > l.perClient {
			return false
		}
	}
	return true
}

// clone returns a copy of the counts, for a trial.
func (l *Letters) clone() *Letters {
	c := &Letters{quota: l.quota, perClient: l.perClient, clients: maps.Clone(l.clients)}
	for _, f := range l.counts {
		g := &letters{number: f.number, size: f.size, shares: make(map[clientKey]*share, len(f.shares))}
		for k, s := range f.shares {
			one := *s
			g.shares[k] = &one
		}
		c.counts = append(c.counts, g)
	}
	return c
}

// Add stores letters; durable on return. Their numbers follow Next. It evicts what
// Evictions has returned. After an error none of these numbers is used again.
//
// A crash before the sync leaves all or none of a frame that was never acknowledged. A
// crash after the sync leaves all of the letters, and perhaps evicted ones once more.
func (l *Letters) Add(batch []Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return fmt.Errorf("add refused letters: %w", err)
	}
	l.next = max(l.next, batch[len(batch)-1].Seq+1)
	for rest := batch; len(rest) > 0; {
		if err := l.begin(); err != nil {
			return fmt.Errorf("add refused letters: %w", err)
		}
		n := l.fill(rest)
		if err := l.add(rest[:n]); err != nil {
			return fmt.Errorf("add refused letters: %w", err)
		}
		rest = rest[n:]
	}
	l.shrink()
	return nil
}

// fill returns how many letters of the batch, one at least, go into the newest file.
func (l *Letters) fill(batch []Letter) (n int) {
	for size := l.counts[len(l.counts)-1].size; n < len(batch) && (n == 0 || size < l.fileSize()); n++ {
		size += batch[n].charge()
	}
	return n
}

// add writes letters to the newest file.
func (l *Letters) add(batch []Letter) error {
	frame := appendLetters(openFrame(nil), batch)
	if len(frame)-headerSize > maxBody {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(frame))
	}
	if err := l.files.append(frame, len(batch)); err != nil {
		return err
	}
	for i := range batch {
		l.stored = l.stored.add(batch[i].Seq)
		l.evicted += l.count(&batch[i])
	}
	return nil
}

// fileSize returns how many bytes a file takes before the next one is begun.
func (l *Letters) fileSize() int64 { return min(letterFile, l.quota/8) }

// full reports whether the next letter begins a file.
func (l *Letters) full() bool {
	n := len(l.counts)
	return n == 0 || l.counts[n-1].size >= l.fileSize()
}

// number returns the number of the next file.
func (l *Letters) number() uint64 {
	if n := len(l.counts); n > 0 {
		return l.counts[n-1].number + 1
	}
	return 1
}

// push adds a file to the counts.
func (l *Letters) push() *letters {
	f := &letters{number: l.number(), shares: make(map[clientKey]*share)}
	l.counts = append(l.counts, f)
	return f
}

// begin opens the file that the next frame goes to.
func (l *Letters) begin() error {
	if l.files.file != nil && !l.full() {
		return nil
	}
	made, err := l.files.begin(l.number())
	if made {
		l.push()
	}
	return err
}

// count adds a letter to the newest file's counts, and returns how many letters of its
// client are evicted.
func (l *Letters) count(letter *Letter) (evicted uint64) {
	k, n := keyOf(letter.Client), letter.charge()
	for _, f := range l.counts {
		if l.clients[k]+n <= l.perClient {
			break
		}
		if s := f.shares[k]; s != nil && s.count > 0 {
			l.clients[k] -= s.bytes
			evicted += s.count
			s.bytes, s.count, s.before = 0, 0, letter.Seq
		}
	}
	f := l.counts[len(l.counts)-1]
	s := f.shares[k]
	if s == nil {
		s = new(share)
		f.shares[k] = s
	}
	s.bytes += n
	s.count++
	f.size += n
	l.clients[k] += n
	return evicted
}

// surplus removes from the counts the files that are to be removed: those without a
// letter that counts, and the oldest if all take more than the quota.
func (l *Letters) surplus() (gone []*letters) {
	kept := l.counts[:0:0]
	for i, f := range l.counts {
		if i < len(l.counts)-1 && !f.live() {
			gone = append(gone, f)
		} else {
			kept = append(kept, f)
		}
	}
	l.counts = kept
	for len(l.counts) > 1 && l.bytes() > l.quota {
		gone = append(gone, l.counts[0])
		l.counts = l.counts[1:]
	}
	for _, f := range gone {
		for k, s := range f.shares {
			if l.clients[k] -= s.bytes; l.clients[k] <= 0 {
				delete(l.clients, k)
			}
		}
	}
	return gone
}

func letterCount(files []*letters) (n uint64) {
	for _, f := range files {
		for _, s := range f.shares {
			n += s.count
		}
	}
	return n
}

// shrink removes the surplus files. A file that cannot be removed now is counted again,
// and removed, after the next start.
func (l *Letters) shrink() {
	gone := l.surplus()
	l.evicted += letterCount(gone)
	for _, f := range gone {
		if err := l.files.remove(f.number); err != nil {
			l.log.Warn("file of refused letters not removed: trying again at the next start", "file", l.files.path(f.number), "err", err)
		}
	}
}

func (l *Letters) bytes() (n int64) {
	for _, f := range l.counts {
		n += f.size
	}
	return n
}

// load counts, once, what earlier opens stored.
func (l *Letters) load() error {
	if l.loaded {
		return nil
	}
	numbers, err := l.files.numbers()
	if err != nil {
		return fmt.Errorf("read refused letters: %w", err)
	}
	l.counts, l.clients, l.next, l.stored = nil, make(map[clientKey]int64), 1, nil
	for _, number := range numbers {
		f := l.push()
		f.number = number
		err := l.eachIn(number, func(letter Letter) error {
			l.count(&letter)
			l.next = max(l.next, letter.Seq+1)
			l.stored = l.stored.add(letter.Seq)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read refused letters: %w", err)
		}
	}
	l.loaded = true
	l.shrink()
	l.evicted = 0
	return nil
}

// Each calls fn with the letters, oldest first. If fn returns an error, Each stops and
// returns it. fn must not call methods of the Letters. Damaged letters are skipped.
func (l *Letters) Each(fn func(Letter) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return err
	}
	for _, f := range l.counts {
		err := l.eachIn(f.number, func(letter Letter) error {
			if s := f.shares[keyOf(letter.Client)]; s == nil || letter.Seq < s.before {
				return nil
			}
			return fn(letter)
		})
		if err != nil {
			return fmt.Errorf("read refused letters: %w", err)
		}
	}
	return nil
}

// eachIn calls fn with all letters of one file.
func (l *Letters) eachIn(number uint64, fn func(Letter) error) error {
	return l.files.each(number, func(count uint32, body []byte) error {
		batch, err := parseLetters(body, count)
		if err != nil {
			l.log.Warn("a file of refused letters is damaged: it is skipped", "file", l.files.path(number), "err", err)
			return nil
		}
		for _, letter := range batch {
			if err := fn(letter); err != nil {
				return err
			}
		}
		return nil
	})
}

// LetterStats says what the letters take.
type LetterStats struct {
	Letters, Evicted uint64 // Evicted counts letters evicted for newer ones since Open
	Bytes, Quota     int64
}

// Stats returns what the letters take.
func (l *Letters) Stats() (LetterStats, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.load(); err != nil {
		return LetterStats{}, err
	}
	return LetterStats{letterCount(l.counts), l.evicted, l.bytes(), l.quota}, nil
}

func (l *Letters) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files.close()
}

// appendLetters appends the body of a frame of letters.
func appendLetters(dst []byte, batch []Letter) []byte {
	for i := range batch {
		l := &batch[i]
		dst = binary.AppendUvarint(dst, l.Seq)
		dst = binary.AppendVarint(dst, l.Time)
		dst = append(dst, l.QoS)
		reason := l.Reason[:min(len(l.Reason), maxReason)]
		for _, p := range [][]byte{[]byte(l.Client), []byte(l.Topic), []byte(reason), l.Payload, l.Hash} {
			dst = binary.AppendUvarint(dst, uint64(len(p)))
			dst = append(dst, p...)
		}
		dst = binary.AppendUvarint(dst, uint64(l.Size))
	}
	return dst
}

// parseLetters accepts only what appendLetters wrote. The letters alias a copy of p.
func parseLetters(p []byte, count uint32) ([]Letter, error) {
	c := coding.NewDecoder(slices.Clone(p))
	if uint64(count) > uint64(len(p)) {
		return nil, corrupt("%d letters in %d bytes", count, len(p))
	}
	var batch []Letter
	for range count {
		l := Letter{Seq: c.Uvarint(), Time: c.Varint(), QoS: c.Byte(), Client: c.String(), Topic: c.String(), Reason: c.String(),
			Payload: c.Bytes(), Hash: c.Bytes()}
		size := c.Uvarint()
		l.Size = int64(size)
		if c.Bad() || l.Seq == 0 || l.Seq > math.MaxInt64 || size > math.MaxInt64 || l.QoS > 2 || len(l.Reason) > maxReason ||
			len(l.Hash) != 0 && len(l.Hash) != sha256.Size {
			return nil, corrupt("letter %d of %d", len(batch)+1, count)
		}
		batch = append(batch, l)
	}
	if c.Len() > 0 {
		return nil, corrupt("%d bytes behind the last letter", c.Len())
	}
	return batch, nil
}
