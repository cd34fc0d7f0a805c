package commitlog

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// TestTransactionFaults spoils each call of a life with transactions in turn, as
// TestFaultMatrix does: an end is there everywhere or nowhere.
func TestTransactionFaults(t *testing.T) {
	spoilEach(t, 10, func(b storage.Bucket) audit {
		answers := liveTransactions(b)
		return func(t *testing.T, b storage.Bucket, land func()) { auditTransactions(t, b, land, answers) }
	})
}

func auditTransactions(t *testing.T, b storage.Bucket, land func(), answers []error) {
	m := &recorder{kinds: []uint16{130}}
	l, err := Open(within(t, time.Minute), options(b, with(m)))
	if err != nil {
		t.Fatal(err)
	}
	land()
	topic, ok := l.Topic("t")
	if !ok {
		must(l.Close())
		return
	}
	for i, err := range answers {
		command := fmt.Sprintf("130:%d", i)
		applied := slices.Contains(m.got, command)
		if err == nil && !applied {
			t.Errorf("%s was promised and is gone", command)
		}
		for p := range int32(3) {
			// The values of a transaction are all seen if its command is, and
			// it was a commit, and none otherwise.
			seen := slices.Contains(committed(t, l, topic.ID, p), fmt.Sprint(i))
			if want := applied && i%2 == 0; seen != want {
				t.Errorf("transaction %d in partition %d is seen: %v, its command: %v", i, p, seen, applied)
			}
		}
	}
	must(l.Close())
	sound(t, b)
}

// liveTransactions ends a few transactions, every other one with a commit, and
// returns the answers. It gives up at the first error of another kind.
func liveTransactions(b storage.Bucket) (answers []error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, with(&recorder{kinds: []uint16{130}})))
	if err != nil {
		return nil
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	topic, err := l.CreateTopic(ctx, "t", 3, nil)
	if err != nil {
		return nil
	}
	for i := range 4 {
		var waits []<-chan result
		for p := range int32(3) {
			waits = append(waits, send(l, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Transactional(7, int16(i), 0, fmt.Sprint(i))}))
		}
		for _, a := range waits {
			if r := <-a; r.err != nil {
				return answers
			}
		}
		end := finish(topic.ID, int16(i+1), i%2 == 0, 0, 1, 2)
		answers = append(answers, l.ProposeAll(ctx, []Command{{130, fmt.Append(nil, i)}}, end))
		if i == 1 {
			_ = l.Maintain(ctx)
		}
	}
	return answers
}
