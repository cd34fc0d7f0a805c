package mqtt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// memBackend keeps messages in memory, a batch within Store, as a gateway does with its
// local log: where a message will lie is known before. Its hooks decide what fails and
// when.
type memBackend struct {
	mu       sync.Mutex
	messages []*Message
	stored   map[Place]*Message
	names    int // of memLog
	batches  int

	refuse func(*Message) error                   // by Accept
	before func(batch []*Message) error           // by Store, without mu: may wait
	keep   func(batch []*Message, err error) bool // is the batch stored although Store fails?
}

func newBackend() *memBackend { return &memBackend{stored: make(map[Place]*Message)} }

// memPlace is the place of the n-th message; it is as long as those of a gateway.
func memPlace(n int) Place { return Place(fmt.Sprintf("memory/%014d", n)) }

func (b *memBackend) Accept(batch *Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken []*Message
	for i, m := range batch.Messages {
		if b.refuse != nil {
			if batch.Errs[i] = b.refuse(m); batch.Errs[i] != nil {
				continue
			}
		}
		taken = append(taken, m)
		if batch.Asks(i) {
			batch.Places[i] = memPlace(len(b.messages) + len(taken))
		}
	}
	batch.Prepared = taken
}

func (b *memBackend) Store(batch *Batch, done func(error)) bool {
	done(b.append(batch))
	return true
}

// append stores a batch, unless the hooks say otherwise.
func (b *memBackend) append(batch *Batch) error {
	if !slices.Equal(batch.Prepared.([]*Message), batch.Messages) {
		panic("Store is given other messages than Accept took")
	}
	var err error
	if b.before != nil {
		err = b.before(batch.Messages)
	}
	if err != nil && (b.keep == nil || !b.keep(batch.Messages, err)) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches++
	for i, m := range batch.Messages {
		b.messages = append(b.messages, m)
		at := memPlace(len(b.messages))
		switch given := batch.Places[i]; {
		case given == "":
		case strings.HasPrefix(string(given), "log/"):
			batch.Places[i] = at // the offset is known now
			b.stored[given] = m
		case given != at:
			panic(fmt.Sprintf("%s has the place %s", at, given))
		}
		b.stored[at] = m
	}
	return err
}

func (b *memBackend) Stored(p Place) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stored[p] != nil
}

// payloads are what was stored, in order, without refused letters.
func (b *memBackend) payloads() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if m.Refused == nil {
			out = append(out, string(m.Payload))
		}
	}
	return out
}

// letters are the refused letters that were stored.
func (b *memBackend) letters() (out []*Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if m.Refused != nil {
			out = append(out, m)
		}
	}
	return out
}

const (
	logLatency   = 2 * time.Millisecond
	storeLatency = 3 * time.Millisecond // of the state store beside it
	logBatches   = 4                    // that memLog takes at once
)

var errAfterFailure = errors.New("a batch before it has failed")

// memLog keeps messages in the memory of a memBackend as a log in the cloud does: each
// batch takes its time, several are under way, and a message has an offset when it is
// durable. Until then its name is that of a producer's sequence.
type memLog struct {
	*memBackend

	mu     sync.Mutex
	last   chan struct{} // closed when the newest batch is done; nil: there was none
	under  int           // batches under way
	most   int           // of them, at one time
	failed int           // round of the newest batch that failed, plus one
	dead   bool          // the process has died: nothing else is stored
}

func (l *memLog) Accept(batch *Batch) {
	l.memBackend.Accept(batch)
	l.memBackend.mu.Lock()
	defer l.memBackend.mu.Unlock()
	for i, p := range batch.Places {
		if p != "" {
			l.names++
			batch.Places[i] = Place(fmt.Sprintf("log/%d", l.names))
		}
	}
}

func (l *memLog) Store(batch *Batch, done func(error)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, mine := l.last, make(chan struct{})
	l.last = mine
	l.under++
	l.most = max(l.most, l.under)
	dead := l.dead
	go func() {
		defer close(mine)
		<-time.After(logLatency)
		if before != nil {
			<-before
		}
		err := errDisk
		if !dead {
			err = l.append(batch)
		}
		l.mu.Lock()
		l.under--
		l.mu.Unlock()
		done(err)
	}()
	return l.under < logBatches
}

// append stores a batch, unless one of its round has failed.
func (l *memLog) append(batch *Batch) error {
	l.mu.Lock()
	failed := l.failed > int(batch.Round)
	l.mu.Unlock()
	if failed {
		return errAfterFailure
	}
	err := l.memBackend.append(batch)
	if err != nil {
		l.mu.Lock()
		l.failed = int(batch.Round) + 1
		l.mu.Unlock()
	}
	return err
}

// overLog reports whether the test is to run over a memLog.
func overLog(t testing.TB) bool { return strings.HasPrefix(t.Name(), "TestOverLog/") }
