package sender_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// An answer with fewer partitions of a topic than an earlier one is out of date: it
// changes nothing, in this session and in the next.
func TestTopicNeverShrinks(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id := r.log.create("sensors", 4)
		r.start()
		put := func(from int) {
			for i := range 10 {
				r.put(weir.Live, "sensors", fmt.Sprint("k", i%5), fmt.Sprint(from+i))
			}
			r.mustSettle()
		}
		put(0)
		where := map[string]int32{}
		for _, l := range r.log.records() {
			where[string(l.record.Key)] = l.partition
		}
		r.log.grow("sensors", 2)
		time.Sleep(6 * time.Minute) // until it is asked for again
		put(10)
		r.cut(false)
		synctest.Wait()
		put(20)
		buffers := r.disk.image()
		for _, row := range buffers[len(buffers)-1].rows {
			if row.Topic == id && row.Partitions != 4 {
				t.Errorf("row %+v", row)
			}
		}
		inOrder(t, r.log.records())
		for _, l := range r.log.records() {
			if l.partition != where[string(l.record.Key)] {
				t.Errorf("key %s is in partition %d, was in %d", l.record.Key, l.partition, where[string(l.record.Key)])
			}
		}
		if n := len(r.log.records()); n != 30 {
			t.Errorf("%d records", n)
		}
	})
}
