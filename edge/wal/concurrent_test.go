package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// TestNobodyWaitsForASync holds an append in its sync, and does everything
// else meanwhile.
func TestNobodyWaitsForASync(t *testing.T) {
	var hold atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	o := small(t.TempDir())
	o.disk.do = func(s step, path string, f func() error) error {
		if s == stepSync && strings.Contains(path, weir.Live.String()) && hold.Load() {
			close(held)
			<-release
		}
		return f()
	}
	l := mustOpen(t, o)
	id, _ := mustAppend(t, l, weir.Live, recs(0, 5))
	hold.Store(true)
	done := make(chan error)
	go func() {
		_, _, err := l.Append(weir.Live, recs(5, 5))
		done <- err
	}()
	<-held
	checkItems(t, readAll(t, l, id, weir.Live), recs(0, 5))
	mustAppend(t, l, weir.Alarm, recs(10, 1))
	if err := l.Trim(id, weir.Live, 3); err != nil {
		t.Fatal(err)
	}
	if got, seq := l.Position(weir.Live); got != id || seq != 6 {
		t.Fatalf("Place = %v, %d", got, seq)
	}
	if s := l.Stats(); s.Records != 3 {
		t.Fatalf("Stats = %+v", s)
	}
	if l.Full(weir.Bulk) || len(l.Buffers()) != 1 {
		t.Fatal("Full or Buffers is wrong")
	}
	hold.Store(false)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if items := readAll(t, l, id, weir.Live); len(items) != 7 || items[0].Seq != 4 {
		t.Fatalf("%d items", len(items))
	}
}

// TestConcurrent appends to every lane from two goroutines each, on a disk
// that fails now and then, while each lane is read, trimmed and retired.
func TestConcurrent(t *testing.T) {
	rnd, s := newRand(t)
	o := small(fastDir(t))
	var mu sync.Mutex
	o.disk.do = func(s step, path string, f func() error) error {
		mu.Lock()
		fail := (s == stepSync || s == stepWrite) && rnd.IntN(60) == 0
		mu.Unlock()
		if fail {
			return errInjected
		}
		return f()
	}
	l := mustOpen(t, o)
	const each = 150
	var stored sync.Map // place of each record that was stored, by number
	var appenders sync.WaitGroup
	for a := range 2 * weir.Lanes {
		appenders.Go(func() {
			rnd := rand.New(rand.NewPCG(s, uint64(a)))
			for i := range each {
				n, count := a*1_000_000+i*10, 1+rnd.IntN(9)
				id, first, err := l.Append(weir.Lane(a%weir.Lanes), recs(n, count))
				if err != nil && !errors.Is(err, errInjected) {
					t.Errorf("Append: %v", err)
				}
				for j := 0; err == nil && j < count; j++ {
					stored.Store(n+j, fmt.Sprint(id, weir.Lane(a%weir.Lanes), first+uint64(j)))
				}
			}
		})
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	read := make([]map[int]string, weir.Lanes)
	for ln := range weir.Lane(weir.Lanes) {
		read[ln] = map[int]string{}
		readers.Go(func() { drain(t, l, ln, read[ln], stop) })
	}
	appenders.Wait()
	close(stop)
	readers.Wait()
	count := 0
	stored.Range(func(n, at any) bool {
		ln := weir.Lane(n.(int) / 1_000_000 % weir.Lanes)
		if read[ln][n.(int)] != at {
			t.Errorf("record %v was stored at %v and read at %q", n, at, read[ln][n.(int)])
		}
		delete(read[ln], n.(int))
		count++
		return !t.Failed()
	})
	for ln := range read {
		if len(read[ln]) > 0 && !t.Failed() {
			t.Errorf("lane %d: %d records were read that nobody was told are stored", ln, len(read[ln]))
		}
	}
	t.Logf("%d records, %d buffers", count, l.Current().Counter())
	retireAll(t, l)
	checkBytes(t, l)
}

// retireAll retires every buffer but the current one.
func retireAll(t *testing.T, l *Log) {
	for _, info := range l.Buffers() {
		if info.Current {
			continue
		}
		if err := l.Retire(info.ID); err != nil {
			t.Error(err)
		}
	}
}

// drain reads a lane of all buffers in order, trimming what it read, until it
// is told to stop and nothing is left.
func drain(t *testing.T, l *Log, ln weir.Lane, got map[int]string, stop <-chan struct{}) {
	for last := false; ; {
		select {
		case <-stop:
			last = true
		case <-l.Notify():
			l.tell() // for the other lanes
		}
		for _, info := range l.Buffers() {
			for from := info.Lanes[ln].First; ; {
				items, err := l.Read(info.ID, ln, from)
				if err == io.EOF || errors.Is(err, ErrUnknown) {
					break
				}
				if err != nil {
					t.Error(err)
					return
				}
				for _, it := range items {
					var n int
					fmt.Sscanf(string(it.Record.Value), "reading %d", &n)
					if it.Gap != nil || it.Seq != from || !reflect.DeepEqual(it.Record, rec(n)) {
						t.Errorf("item at %d: %+v", from, it)
						return
					}
					if _, twice := got[n]; twice {
						t.Errorf("record %d was read twice", n)
						return
					}
					got[n] = fmt.Sprint(info.ID, ln, it.Seq)
					from++
				}
				if err := l.Trim(info.ID, ln, from-1); err != nil {
					t.Error(err)
					return
				}
			}
		}
		if last {
			return
		}
	}
}
