package row

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
)

// errClosed: the row takes no more records; nothing happened.
var errClosed = errors.New("row is closed")

// errRemoved: the row's folder was removed with everything in it.
var errRemoved = errors.New("folder was removed")

// appender writes the records of a row. It belongs to the handle that made the row,
// until the handle or the row is closed. No other handle ever writes to the packs.
type appender struct {
	r *row

	mu      sync.Mutex
	busy    map[uint64]*creation // guarded by mu: numbers whose Create is under way
	queue   []*creation          // guarded by mu: those that wait for a group
	running bool                 // guarded by mu: commits are under way
	closed  bool                 // guarded by mu: see errClosed
	begun   bool                 // guarded by mu: something was created in this row

	// The fields below belong to run. Others may use them when run has ended and will
	// not start again.
	file     *os.File // of the last pack; nil before the first one
	pack     *pack
	end      int64 // where the last group in it ends
	count    int64 // groups in it
	wrote    int64 // bytes of its file that were written before
	unmarked bool  // the last pack has no mark yet: it must not get records before
	next     chan made
	head     []byte // of groups, to be used again
}

// creation is a call of Create that is under way.
type creation struct {
	number    uint64
	body      []byte
	sum       uint32        // CRC32C of body
	err       error         // set before committed is closed
	committed chan struct{} // closed when its group was written, or failed
	done      chan struct{} // closed when the number is not busy any more
}

func newAppender(r *row) *appender {
	return &appender{r: r, busy: make(map[uint64]*creation)}
}

func (w *appender) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// waitFor waits until the Creates of the numbers, or all Creates if none is given, that
// are under way have ended.
func (w *appender) waitFor(ctx context.Context, numbers []uint64) error {
	w.mu.Lock()
	var wait []*creation
	for _, n := range numbers {
		if c := w.busy[n]; c != nil {
			wait = append(wait, c)
		}
	}
	if len(numbers) == 0 {
		for _, c := range w.busy {
			wait = append(wait, c)
		}
	}
	w.mu.Unlock()
	for _, c := range wait {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// create is Create in a row that this handle appends to. Errors: errClosed, which means
// that the object was not created here, and those of Create.
func (w *appender) create(key string, number uint64, body []byte, sum uint32) error {
	c := &creation{number: number, body: body, sum: sum, committed: make(chan struct{}), done: make(chan struct{})}
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return errClosed
		}
		other := w.busy[number]
		if other == nil {
			break
		}
		w.mu.Unlock()
		<-other.done
	}
	w.busy[number] = c
	// Many rows never get a second object: a pack would be wasted on them.
	single := !w.begun || len(body) > maxRecord
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.busy, number)
		w.mu.Unlock()
		close(c.done)
	}()
	taken, err := w.taken(key, number)
	if err != nil {
		return err
	}
	if taken {
		return storage.ErrExists
	}
	if single {
		// The link decides against a process that closes the row meanwhile. The number
		// is in no pack.
		err := w.r.disk.Create(key, body, disk.FilePerm, nil)
		w.mu.Lock()
		w.begun = w.begun || err == nil
		w.mu.Unlock()
		return err
	}
	return w.append(c)
}

// taken looks for the number among what was acknowledged, in packs and files.
func (w *appender) taken(key string, number uint64) (bool, error) {
	r := w.r
	r.mu.Lock()
	at, found, err := r.find(number)
	if err == nil && !found && at.pack != nil {
		err = r.syncGone(at.pack)
	}
	r.mu.Unlock()
	if found || err != nil {
		return found, err
	}
	there, err := disk.Exists(r.disk.Path(key))
	if !there || err != nil {
		return false, err
	}
	dir, err := r.disk.OpenDir(r.name)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return false, r.disk.Taken(dir, r.disk.Path(key))
}

func (w *appender) append(c *creation) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed
	}
	w.queue = append(w.queue, c)
	if !w.running {
		w.running = true
		w.r.rows.wg.Go(w.run)
	}
	w.mu.Unlock()
	<-c.committed
	return c.err
}

// run commits group after group until no call waits. Calls that arrive while a group is
// written and synced go into the next one.
func (w *appender) run() {
	for {
		group := w.nextGroup()
		if group == nil {
			return
		}
		err := w.commit(group)
		for _, c := range group {
			if c.err == nil {
				c.err = err
			}
			close(c.committed)
		}
		runtime.Gosched() // callers that were just answered may join the next group
	}
}

// nextGroup returns the calls of the next group, nil if none waits.
func (w *appender) nextGroup() []*creation {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, bytes := 0, 0
	for n < len(w.queue) && n < maxCount && (n == 0 || bytes+len(w.queue[n].body) <= maxGroup) {
		bytes += len(w.queue[n].body)
		n++
	}
	if n == 0 {
		w.running = false
		w.queue = nil
		if w.closed {
			w.release()
		}
		return nil
	}
	group := w.queue[:n:n]
	w.queue = w.queue[n:]
	return group
}

// commit writes a group and makes it durable, and then checks whether the row is being
// closed: the order is the proof, see freeze. A crash before the sync leaves a group
// that may be torn and then does not count; a crash after it leaves records that were
// not acknowledged.
func (w *appender) commit(creates []*creation) error {
	if w.isClosed() {
		return errClosed
	}
	if err := w.r.disk.Health(); err != nil {
		return err
	}
	var bytes int64
	for _, c := range creates {
		bytes += int64(len(c.body))
	}
	if err := w.makeRoom(groupSize(len(creates), bytes)); err != nil {
		return errors.Join(err, w.checkFolder())
	}
	if err := w.mark(); err != nil {
		return errors.Join(fmt.Errorf("mark pack: %w", err), w.checkFolder())
	}
	var g group
	w.head, g = appendHead(w.head[:0], w.pack.identity, w.end, creates)
	pieces, length := make([][]byte, 0, len(creates)+2), int64(len(w.head))+bytes
	pieces = append(pieces, w.head)
	for _, c := range creates {
		pieces = append(pieces, c.body)
	}
	if zeros := w.padded(g) - length; zeros > 0 {
		pieces = append(pieces, make([]byte, zeros))
	}
	w.r.rows.mutations.at("write")
	if err := disk.WriteVectorsAt(w.file, pieces, w.end); err != nil {
		// A partial group does not count, and the next one overwrites it.
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return err
		}
		return w.r.disk.Broke(err)
	}
	w.r.rows.mutations.at("sync")
	if err := w.r.disk.Data(w.file); err != nil {
		err = w.r.disk.Broke(fmt.Errorf("sync %s: %w", w.file.Name(), err))
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return w.acknowledge(g, creates)
}

// padded returns how many bytes are written for a group: up to the end of its last page,
// and more for a small group in space that was never written: the groups after it then
// go to space that was.
func (w *appender) padded(g group) int64 {
	if g.next <= w.wrote {
		return g.next - w.end
	}
	w.wrote = g.next
	if g.next-w.end < largeGroup {
		w.wrote = min(w.pack.size, g.next+padding)
	}
	return w.wrote - w.end
}

// acknowledge acknowledges a durable group, unless the row was closed.
func (w *appender) acknowledge(g group, creates []*creation) error {
	r := w.r
	r.rows.mutations.at("look")
	closing, err := r.closing()
	if err == nil && !closing {
		if err = w.checkFolder(); errors.Is(err, errRemoved) {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, r.disk.Broke(err))
	}
	if closing && !r.rows.mutations.ackUnseen() {
		return w.acknowledgeClosed(g, creates)
	}
	w.end = g.next
	w.count++
	r.mu.Lock()
	defer r.mu.Unlock()
	if w.pack.end < g.next { // otherwise a List has already read it, after Close
		w.pack.add(g)
	}
	r.publish()
	return nil
}

// checkFolder ends appending if the folder was removed, and with it everything that was
// appended.
func (w *appender) checkFolder() error {
	there, err := disk.Exists(w.r.file(rowName))
	if there || err != nil {
		return err
	}
	w.close()
	w.r.rows.forget(w.r)
	return fmt.Errorf("%s: %w", w.r.name, errRemoved)
}

// acknowledgeClosed ends appending, because the row is being closed. Records of the
// last group that lie before the row's end are acknowledged; the others never happened.
func (w *appender) acknowledgeClosed(g group, creates []*creation) error {
	w.close()
	r := w.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.freeze(); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	if end := *r.end; w.pack.number < end.pack || w.pack.number == end.pack && g.next <= end.off {
		return nil
	}
	if w.pack.number > r.end.pack {
		// No reader needs the file, so an error does not matter.
		_ = os.Remove(r.packPath(w.pack.number))
	}
	return errClosed
}

func (w *appender) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

// shut ends appending because the handle is closed.
func (w *appender) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if !w.running {
		w.release()
	}
}

// release closes the files of an appender that has ended. The caller holds mu.
func (w *appender) release() {
	if w.file != nil {
		w.file.Close()
		w.file = nil
	}
	if w.next != nil {
		m := <-w.next
		w.next = nil
		if m.blank != nil {
			m.blank.drop()
		}
	}
	w.head = nil
}

// makeRoom makes sure that a group of size bytes fits into the last pack, and begins
// another pack if it does not.
func (w *appender) makeRoom(size int64) error {
	if w.file == nil || w.end+size > w.pack.size {
		if err := w.rotate(page + size); err != nil {
			return fmt.Errorf("begin pack: %w", err)
		}
	}
	if w.next == nil && w.end > w.pack.size-w.pack.size/4 {
		w.prepare()
	}
	return nil
}

// mark writes the mark that the last pack was begun. It does so before the pack takes a
// record, so a crash before it leaves a pack without records.
func (w *appender) mark() error {
	if !w.unmarked {
		return nil
	}
	if err := w.r.mark(markBegun, w.pack.number); err != nil {
		return err
	}
	w.unmarked = false
	return nil
}

// prepare makes the next pack while this one is being filled.
func (w *appender) prepare() {
	rows, group := w.r.rows, w.groupSize(0)
	size := rows.packSize(w.r.held(), group)
	next := make(chan made, 1)
	w.next = next
	rows.wg.Go(func() {
		m, err := rows.blank(w.r.name, rows.smallest, size, group >= largeGroup)
		next <- made{m, err}
	})
}

// groupSize returns how many bytes the groups of the last pack have on average; if it
// has none, it is the size of the next one.
func (w *appender) groupSize(next int64) int64 {
	if w.count == 0 {
		return next
	}
	return (w.end - page) / w.count
}

// rotate begins a pack of at least need bytes. The pack has its name and a durable head
// before a record is written to it. An error means that nothing happened.
func (w *appender) rotate(need int64) error {
	h := packHead{row: w.r.id, number: 1}
	if w.pack != nil {
		h.number, h.before = w.pack.number+1, w.end
	}
	f, wrote, err := w.begin(&h, need)
	if err != nil {
		return err
	}
	if err := w.r.syncNames(); err != nil {
		f.Close()
		return err
	}
	if w.file != nil {
		w.writeIndex()
		w.file.Close()
	}
	p := &pack{packHead: h, end: page}
	w.file, w.pack, w.end, w.count, w.wrote, w.unmarked = f, p, page, 0, wrote, true
	if h.number == 1 {
		w.r.rows.wg.Go(w.r.rows.sweepOthers)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	w.r.add(p)
	return nil
}

// begin gives a file the head and the name of a pack. It returns how many bytes of the
// file were written before.
func (w *appender) begin(h *packHead, need int64) (f *os.File, wrote int64, err error) {
	for {
		b, err := w.ready(need)
		if err != nil {
			return nil, 0, err
		}
		h.size = b.size
		rand.Read(h.identity[:])
		_, err = b.file.WriteAt(encodePackHead(*h), 0)
		if err == nil {
			err = w.r.disk.Data(b.file)
		}
		if err != nil {
			b.drop()
			return nil, 0, err
		}
		f, err := b.link(w.r.packPath(h.number))
		if errors.Is(err, unix.ENOENT) && b.name != "" {
			continue // another process has cleaned up .tmp
		}
		if err != nil && !disk.Refused(err) {
			err = w.r.disk.Broke(err)
		}
		return f, max(b.written, page), err
	}
}

// ready returns a file for a pack: the one that was prepared, or a new one. If the disk
// is full, the new one is as small as possible.
func (w *appender) ready(need int64) (*blank, error) {
	if w.next != nil {
		m := <-w.next
		w.next = nil
		if m.err == nil && m.size >= need {
			return m.blank, nil
		}
		if m.blank != nil {
			m.blank.drop()
		}
	}
	group := w.groupSize(need)
	size := w.r.rows.packSize(w.r.held(), group)
	return w.r.rows.blank(w.r.name, need, max(need, size), group >= largeGroup)
}
