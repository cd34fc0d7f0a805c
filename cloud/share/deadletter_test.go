package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// letters returns the dead letters in a topic, as texts: key, value and headers.
func (w *world) letters(topic string) (all []string) {
	w.t.Helper()
	t, ok := w.log.Topic(topic)
	if !ok {
		return nil
	}
	_, end, err := w.log.Bounds(t.ID, 0)
	w.want(err, nil)
	for at := int64(0); at < end; {
		f, err := w.log.Fetch(w.t.Context(), t.ID, 0, at, 1<<20)
		w.want(err, nil)
		for _, b := range f.Batches {
			w.want(record.Batch(b).Each(logstate.MaxInflated, func(r *record.Record) error {
				text := fmt.Sprintf("%s=%s", r.Key, r.Value)
				for _, h := range r.Headers {
					text += " " + strings.TrimPrefix(h.Key, "__dlq.errors.") + ":" + string(h.Value)
				}
				all = append(all, text)
				return nil
			}), nil)
			at = record.Batch(b).NextOffset()
		}
		f.Lease.Release()
	}
	return all
}

func (w *world) wantLetters(want ...string) {
	w.t.Helper()
	if got := w.letters("dlq.t"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Fatalf("dead letters:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (w *world) wantCopied(copied, uncopied int64) {
	w.t.Helper()
	if all, err := w.Usage(); err != nil || len(all) != 1 || all[0].Copied != copied || all[0].Uncopied != uncopied {
		w.t.Errorf("%+v, %v; want %d that are copied and %d that are not", all, err, copied, uncopied)
	}
}

// full returns a batch of records with keys and headers.
func full(w *world, values ...string) record.Batch {
	b := record.NewBuilder(record.None)
	for _, v := range values {
		w.want(b.Append(&record.Record{Key: []byte("k"), Value: []byte(v), Headers: []record.Header{{Key: "h", Value: []byte("x")}}}), nil)
	}
	batch, err := b.Build()
	w.want(err, nil)
	return batch
}

// TestDeadLetters: what a member rejects, and what was delivered too often, is in the
// dead-letter topic once: when the verdict is answered. What was accepted is not.
func TestDeadLetters(t *testing.T) {
	s := earliest
	s.Deliveries, s.DeadLetters, s.CopyDead = 2, "dlq.t", true
	run(t, 0, s, func(w *world) {
		w.append(full(w, "a", "b", "c", "d"))
		w.acquire("m", 0)
		w.want(w.ack("m", 0, 3, Accept, Reject, Release, Reject), nil)
		context := func(offset, count int, message string) string {
			return fmt.Sprintf("topic:t partition:0 offset:%d group:g delivery.count:%d message:%s h:x", offset, count, message)
		}
		first := []string{"k=b " + context(1, 1, rejected), "k=d " + context(3, 1, rejected)}
		w.wantLetters(first...)
		w.got(w.acquire("m", 0), Delivery{2, 2, 2})
		time.Sleep(2 * time.Second) // the lease ends
		synctest.Wait()
		w.wantLetters(append(first, "k=c "+context(2, 2, worn))...)
		if o := w.offsets(); o.Start != 4 || o.Lag != 0 {
			w.t.Errorf("%+v", o)
		}
		w.crash()
		w.got(w.acquire("m", 0))
		w.append(full(w, "e"))
		w.acquire("m", 0)
		w.want(w.leave("m"), nil)
		w.acquire("n", 0)
		w.want(w.leave("n"), nil)
		w.wantLetters(append(first, "k=c "+context(2, 2, worn), "k=e "+context(4, 2, worn))...)
		w.wantCopied(1, 0) // by this owner
	})
}

func (w *world) leave(member string) error {
	done := make(chan error, 1)
	w.Leave("g", member, func(err error) { done <- err })
	return <-done
}

// TestDeadLettersBare: by default a dead letter does not have the record.
func TestDeadLettersBare(t *testing.T) {
	s := earliest
	s.DeadLetters = "dlq.t"
	run(t, 0, s, func(w *world) {
		w.append(full(w, "a"))
		w.acquire("m", 0)
		w.want(w.ack("m", 0, 0, Reject), nil)
		w.wantLetters("= topic:t partition:0 offset:0 group:g delivery.count:1 message:" + rejected)
	})
}

// acquireAll has a member acquire so many records.
func (w *world) acquireAll(member string, records int64) {
	w.t.Helper()
	for records > 0 {
		for _, d := range w.acquire(member, 0) {
			records -= d.Last - d.First + 1
		}
	}
}

// TestDeadLettersMany: dead letters that do not fit into a slot take several.
func TestDeadLettersMany(t *testing.T) {
	s := earliest
	s.DeadLetters, s.CopyDead = "dlq.t", true
	run(t, 0, s, func(w *world) {
		large := strings.Repeat("x", 700<<10)
		for range 6 {
			w.append(full(w, large))
		}
		w.append(full(w, strings.Repeat("y", 1<<20)))
		w.append(recordtest.Batch("a", "b"))
		w.transaction(7, 1, true, "c") // and a marker
		w.acquireAll("m", 10)
		w.want(w.ack("m", 0, 9, Reject), nil)
		all := w.letters("dlq.t")
		if len(all) != 10 {
			w.t.Fatalf("%d dead letters", len(all))
		}
		for i, l := range all {
			value, copied := large, i != 6
			switch i {
			case 7, 8, 9:
				value = string(rune('a' + i - 7))
			}
			if !strings.Contains(l, fmt.Sprintf(" offset:%d ", i)) || strings.Contains(l, "="+value+" ") != copied {
				w.t.Errorf("letter %d: %.80q", i, l)
			}
		}
		if o := w.offsets(); o.Lag != 0 {
			w.t.Errorf("%+v", o)
		}
	})
}

// TestDeadLettersLimit: a batch of dead letters is not larger than the topic allows, and a
// record for which it would have to be is not copied.
func TestDeadLettersLimit(t *testing.T) {
	const limit = 2000
	for _, own := range []bool{true, false} {
		s := earliest
		s.DeadLetters, s.CopyDead = "dlq.t", true
		if !own {
			s.BatchBytes = limit
		}
		run(t, 0, s, func(w *world) {
			if topic, _ := w.log.Topic("dlq.t"); own {
				w.want(w.log.AlterTopic(w.t.Context(), topic.ID, map[string]string{DeadLetterEnable: "true", "max.message.bytes": strconv.Itoa(limit)}), nil)
			}
			const large = 7 // its number
			for i := range 20 {
				size := 300
				if i == large {
					size = limit
				}
				w.append(full(w, strings.Repeat("x", size)))
			}
			w.acquireAll("m", 20)
			w.want(w.ack("m", 0, 19, Reject), nil)
			all := w.letters("dlq.t")
			if len(all) != 20 {
				w.t.Fatalf("%d dead letters", len(all))
			}
			for i, l := range all {
				if !strings.Contains(l, fmt.Sprintf(" offset:%d ", i)) || strings.HasPrefix(l, "k=x") != (i != large) {
					w.t.Errorf("letter %d: %.80q", i, l)
				}
			}
			if n := w.largest("dlq.t"); n > limit || n < limit/2 {
				w.t.Errorf("the largest batch has %d bytes, the limit is %d", n, limit)
			}
		})
	}
}

// largest returns the size of the largest batch in a topic.
func (w *world) largest(topic string) (size int) {
	w.t.Helper()
	t, _ := w.log.Topic(topic)
	_, end, err := w.log.Bounds(t.ID, 0)
	w.want(err, nil)
	for at := int64(0); at < end; {
		f, err := w.log.Fetch(w.t.Context(), t.ID, 0, at, 1<<20)
		w.want(err, nil)
		for _, b := range f.Batches {
			size, at = max(size, len(b)), record.Batch(b).NextOffset()
		}
		f.Lease.Release()
	}
	return size
}

// syncBuffer is a buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// TestDeadLettersUnusable: without a topic that may be used, records are done without a
// dead letter, and that is logged once.
func TestDeadLettersUnusable(t *testing.T) {
	s := earliest
	s.Deliveries, s.DeadLetters = 2, "dlq.t"
	run(t, 0, s, func(w *world) {
		var log syncBuffer
		w.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
		w.crash()
		topic, _ := w.log.Topic("dlq.t")
		var copied, uncopied int64
		step := func(want string, letters int) {
			w.t.Helper()
			log.b.Reset()
			for range 2 {
				at := w.append(full(w, "a"))
				w.acquire("m", 0)
				w.want(w.ack("m", at, at, Reject), nil)
			}
			if got := strings.Count(log.b.String(), "are not copied"); (got == 1) != (want != "") || !strings.Contains(log.b.String(), want) {
				w.t.Errorf("%d lines, want one with %q: %s", got, want, log.b.String())
			}
			if copied += 2; want != "" || letters == 0 {
				copied, uncopied = copied-2, uncopied+2
			}
			w.wantCopied(copied, uncopied)
			if n := len(w.letters("dlq.t")); n != letters {
				w.t.Errorf("%d dead letters, want %d", n, letters)
			}
		}
		step("", 2)
		w.want(w.log.AlterTopic(w.t.Context(), topic.ID, map[string]string{}), nil)
		step(DeadLetterEnable, 2)
		w.want(w.log.AlterTopic(w.t.Context(), topic.ID, map[string]string{DeadLetterEnable: "true"}), nil)
		step("", 4)
		w.want(w.log.AlterTopic(w.t.Context(), topic.ID, map[string]string{DeadLetterEnable: "true", "cleanup.policy": "compact"}), nil)
		step("compacted", 4)
		w.want(w.log.DeleteTopic(w.t.Context(), topic.ID), nil)
		step("", 0) // the group is known for it
	})
}

// TestDeadLettersFail: records whose dead letters cannot be written stay acquired.
func TestDeadLettersFail(t *testing.T) {
	s := earliest
	s.DeadLetters = "dlq.t"
	run(t, 0, s, func(w *world) {
		w.append(full(w, "a", "b"))
		w.acquire("m", 0)
		before, log := w.Manager, w.log
		w.open()
		done := make(chan error, 1)
		before.Acknowledge(w.place(), "m", []Acknowledgement{{0, 0, []Verdict{Reject}}}, func(err error) { done <- err })
		if err := <-done; !gone(err) {
			w.t.Errorf("the verdict was taken: %v", err)
		}
		before.mu.Lock()
		if p := before.groups["g"][topicPart{w.topic, 0}]; p.held() != 2 || p.leases[0].ending {
			w.t.Errorf("%+v", p.leases)
		}
		before.mu.Unlock()
		w.wantLetters()
		w.got(w.acquire("m", 0), Delivery{0, 1, 2})
		_ = log.Close() // it is fenced
		w.want(before.Close(), nil)
	})
}

// auditLetters compares the dead letters with what the members have said.
func (k *walker) auditLetters() {
	letters := make(map[int]int)
	for _, l := range k.letters("dlq.t") {
		_, rest, _ := strings.Cut(l, " offset:")
		digits, _, _ := strings.Cut(rest, " ")
		offset, err := strconv.Atoi(digits)
		k.want(err, nil)
		letters[offset]++
	}
	has := len(k.opts.Settings("g").DeadLetters) > 0
	for o, r := range k.records {
		n := letters[o]
		switch {
		case n > 1:
			k.t.Errorf("%s: record %d has %d dead letters", k.what, o, n)
		case n > 0 && !r.rejected && r.count < k.limit:
			k.t.Errorf("%s: record %d has a dead letter: %+v", k.what, o, r)
		case has && n == 0 && r.dead && int64(o) >= k.start:
			k.t.Errorf("%s: record %d was rejected, and has no dead letter: %+v", k.what, o, r)
		case has && n == 0 && !r.perhaps && !r.done && r.wanted && r.count >= k.limit && int64(o) >= k.start:
			k.t.Errorf("%s: record %d was delivered %d times, and has no dead letter: %+v", k.what, o, r.count, r)
		}
	}
}

// TestDeadLettersHere: a partition of the same shard gets the dead letters; if the topic has
// none there, it cannot be used, unless they can be sent to another shard.
func TestDeadLettersHere(t *testing.T) {
	s := earliest
	s.Deliveries, s.DeadLetters = 2, "dlq.t"
	run(t, 0, s, func(w *world) {
		here := int32(2)
		dead, _ := w.log.Topic("dlq.t")
		w.opts.Here = func(topic weir.TopicID, partition int32) bool { return topic == dead.ID && partition == here }
		w.crash()
		reject := func() {
			at := w.append(full(w, "a"))
			w.acquire("m", 0)
			w.want(w.ack("m", at, at, Reject), nil)
		}
		reject() // the topic has partition 0 alone
		w.wantCopied(0, 1)
		w.want(w.log.GrowTopic(w.t.Context(), dead.ID, 4), nil)
		reject()
		w.wantCopied(1, 1)
		for p := range int32(4) {
			if _, end, err := w.log.Bounds(dead.ID, p); err != nil || (end == 1) != (p == here) {
				w.t.Errorf("partition %d has %d dead letters, %v", p, end, err)
			}
		}
	})
}

// lettersElsewhere makes the dead-letter topic one of another shard, which send serves.
func (w *world) lettersElsewhere(send func(letters record.Batch) error) {
	w.t.Helper()
	w.opts.Here = func(topic weir.TopicID, _ int32) bool { return topic == w.topic }
	w.opts.Send = func(_ context.Context, topic weir.TopicID, partition int32, letters record.Batch) error {
		if t, ok := w.log.Topic("dlq.t"); !ok || t.ID != topic || partition != 0 {
			w.t.Errorf("sent to partition %d of %v", partition, topic)
		}
		return send(letters)
	}
	w.crash()
}

// sends appends dead letters to the topic.
func (w *world) sends(letters record.Batch) error {
	t, _ := w.log.Topic("dlq.t")
	done := make(chan error, 1)
	w.log.Append(commitlog.Append{Topic: t.ID, Batch: letters}, func(_ int64, err error) { done <- err })
	return <-done
}

// TestDeadLettersElsewhere: a dead letter in another shard is durable before its record is
// done. While that shard does not answer the record is not done, and is delivered again.
func TestDeadLettersElsewhere(t *testing.T) {
	s := earliest
	s.DeadLetters = "dlq.t"
	silent := errors.New("nobody answers")
	run(t, 0, s, func(w *world) {
		failed, lost := true, false
		w.lettersElsewhere(func(letters record.Batch) error {
			switch {
			case failed:
				return silent
			case lost:
				w.want(w.sends(letters), nil)
				return silent
			}
			return w.sends(letters)
		})
		w.append(full(w, "a", "b"))
		w.acquire("m", 0)
		w.want(w.ack("m", 0, 1, Reject, Accept), silent)
		if o := w.offsets(); o.Start != 0 || o.Lag != 2 {
			w.t.Errorf("without its dead letter the record is done: %+v", o)
		}
		w.wantLetters()
		failed, lost = false, true
		w.want(w.ack("m", 0, 0, Reject), silent)
		letter := "= topic:t partition:0 offset:0 group:g delivery.count:1 message:" + rejected
		w.wantLetters(letter)
		lost = false
		w.want(w.ack("m", 0, 1, Reject, Accept), nil)
		w.wantLetters(letter, letter) // the answer to the first one was lost
		w.wantCopied(1, 0)
		if o := w.offsets(); o.Start != 2 || o.Lag != 0 {
			w.t.Errorf("%+v", o)
		}
	})
}

// TestDeadLettersCrashElsewhere: an owner that ends between a dead letter and the entry that
// says that its record is done leaves the record to the next one.
func TestDeadLettersCrashElsewhere(t *testing.T) {
	s := earliest
	s.DeadLetters = "dlq.t"
	run(t, 0, s, func(w *world) {
		ends := true
		w.lettersElsewhere(func(letters record.Batch) error {
			w.want(w.sends(letters), nil)
			if ends {
				ends = false
				_ = w.log.Close()
			}
			return nil
		})
		w.append(full(w, "a"))
		w.acquire("m", 0)
		if err := w.ack("m", 0, 0, Reject); !gone(err) {
			w.t.Errorf("%v", err)
		}
		w.crash()
		w.got(w.acquire("m", 0), Delivery{0, 0, 2})
		w.want(w.ack("m", 0, 0, Reject), nil)
		if got := w.letters("dlq.t"); len(got) != 2 {
			w.t.Errorf("%q", got)
		}
		w.got(w.acquire("m", 0))
	})
}

// TestDeadLetterTopicElsewhere: a topic of which this shard has no partition is found in the
// catalogue.
func TestDeadLetterTopicElsewhere(t *testing.T) {
	s := earliest
	s.DeadLetters = "dlq.far"
	run(t, 0, s, func(w *world) {
		far := logstate.Topic{ID: weir.TopicID{9}, Name: "dlq.far", Partitions: 3, Configs: map[string]string{DeadLetterEnable: "true"}}
		w.want(w.log.DeleteTopic(w.t.Context(), func() weir.TopicID { t, _ := w.log.Topic("dlq.far"); return t.ID }()), nil)
		var sent []int32
		w.opts.Here = func(topic weir.TopicID, _ int32) bool { return topic == w.topic }
		w.opts.Send = func(_ context.Context, topic weir.TopicID, partition int32, _ record.Batch) error {
			if topic != far.ID {
				w.t.Errorf("sent to %v", topic)
			}
			sent = append(sent, partition)
			return nil
		}
		w.crash()
		w.Start(w.t.Context(), machine.WaitingLog{Log: w.log, Catalogue: &machine.Topics{All: func() []logstate.Topic { return []logstate.Topic{far} },
			ByID: func(id weir.TopicID) (logstate.Topic, bool) { return logstate.Topic{ID: id}, true }}})
		w.append(full(w, "a"))
		w.acquire("m", 0)
		w.want(w.ack("m", 0, 0, Reject), nil)
		if len(sent) != 1 || sent[0] != 0 {
			w.t.Errorf("sent to partitions %v", sent)
		}
		w.wantCopied(1, 0)
		far.Configs = nil
		w.append(full(w, "b"))
		w.acquire("m", 0)
		w.want(w.ack("m", 1, 1, Reject), nil)
		w.wantCopied(1, 1)
	})
}
