package state

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// TestNeededInSteps: what queues have at the end is needed, whatever goes between the
// steps.
func TestNeededInSteps(t *testing.T) {
	const queues = 1000
	v := newVhost("x", weir.TopicID{1})
	for i := range int64(queues) {
		q := newQueue(v, fmt.Sprint(i), QueueID(i), Settings{})
		v.queues[q.Name], v.ids[q.ID] = q, q
		q.add(0, 2*i, 2*i)
		v.end = 2*i + 2
	}
	n, steps := v.Needed(), 1
	for ; !n.Step(); steps++ {
		delete(v.ids, QueueID(steps))
		v.ids[QueueID(queues-steps)].remove(0, 2*queues)
		if q := v.ids[QueueID(queues/2)]; q.Len() > 0 { // a message is published, behind Before
			q.add(0, v.end, v.end)
			v.end++
		}
	}
	if steps < 10 || n.Before != 2*queues {
		t.Errorf("%d steps, before %d", steps, n.Before)
	}
	left := int64(0)
	for _, q := range v.ids {
		for id := range q.Waiting(0) {
			if id >= n.Before {
				break
			}
			if left++; !n.Has(id) {
				t.Errorf("message %d is needed", id)
			}
		}
	}
	if got := n.Count(0, n.Before); got < left || got > queues || n.Has(1) {
		t.Errorf("%d are needed, %d are left", got, left)
	}
}
