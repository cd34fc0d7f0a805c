package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// admin is clients that create and delete the same few topics. There must be an order of
// their calls, each between its question and its answer, in which the answers are right.
type admin struct {
	t     *testing.T
	nodes *nodes
	began time.Time

	mu         sync.Mutex
	operations []porcupine.Operation // guarded by mu
	lives      [3]int                // of names that clients use now; guarded by mu
}

// change is a call for one topic.
type change struct {
	topic  string
	create bool
}

// outcome is its answer. A call that was not answered may happen at any later time.
type outcome struct{ done, unknown bool }

// existence is one topic: there, or not.
var existence = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, input, output any) (bool, any) {
		exists, in, out := state.(bool), input.(change), output.(outcome)
		switch {
		case out.unknown || out.done && exists != in.create:
			return true, in.create
		case out.done:
			return false, exists
		}
		return exists == in.create, exists // refused: it exists already, or does not
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

func newAdmin(t *testing.T, n *nodes) *admin { return &admin{t: t, nodes: n, began: time.Now()} }

func (a *admin) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for id := range 3 {
		all.Go(func() { a.client(ctx, id) })
	}
}

// name returns the name of a topic, which is no longer used when a call for it was not
// answered: each such call could have happened at any later time, and the possible
// orders would be too many to check.
func (a *admin) name(i int) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("made-%d-%d", i, a.lives[i])
}

// client makes one call after the other.
func (a *admin) client(ctx context.Context, id int) {
	client := newClient(a.t, a.nodes, kgo.RequestRetries(0))
	rng := rand.New(rand.NewPCG(uint64(id), 3))
	for number := id; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		i := rng.IntN(len(a.lives))
		in := change{a.name(i), rng.IntN(2) == 0}
		from := time.Since(a.began)
		out := a.ask(client, in)
		to := int64(time.Since(a.began))
		if out.unknown {
			to = math.MaxInt64
		}
		a.mu.Lock()
		a.operations = append(a.operations, porcupine.Operation{ClientId: number, Input: in, Output: out, Call: int64(from), Return: to})
		if out.unknown {
			number += 100 // a client of the history has one call at a time
			if in.topic == fmt.Sprintf("made-%d-%d", i, a.lives[i]) {
				a.lives[i]++
			}
		}
		a.mu.Unlock()
	}
}

// ask makes a call, once.
func (a *admin) ask(client *kgo.Client, in change) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var code int16
	var err error
	if in.create {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 5000
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = in.topic, 3, 1
		req.Topics = append(req.Topics, topic)
		var resp *kmsg.CreateTopicsResponse
		if resp, err = req.RequestWith(ctx, client); err == nil {
			code = resp.Topics[0].ErrorCode
		}
	} else {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TimeoutMillis = 5000
		topic := kmsg.NewDeleteTopicsRequestTopic()
		topic.Topic = &in.topic
		req.Topics, req.TopicNames = append(req.Topics, topic), []string{in.topic}
		var resp *kmsg.DeleteTopicsResponse
		if resp, err = req.RequestWith(ctx, client); err == nil {
			code = resp.Topics[0].ErrorCode
		}
	}
	failed := kerr.ErrorForCode(code)
	switch {
	case err != nil:
		return outcome{unknown: true}
	case failed == nil:
		return outcome{done: true}
	case errors.Is(failed, kerr.TopicAlreadyExists), errors.Is(failed, kerr.UnknownTopicOrPartition):
		return outcome{}
	}
	return outcome{unknown: true} // NOT_CONTROLLER, too: the node may have lost the catalogue while the change was on its way
}

func (a *admin) judge(context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	answered := 0
	for _, o := range a.operations {
		if !o.Output.(outcome).unknown {
			answered++
		}
	}
	names := make(map[string][]porcupine.Operation)
	for _, o := range a.operations {
		name := o.Input.(change).topic
		names[name] = append(names[name], o)
	}
	a.t.Logf("admin: %d calls for %d names, %d of them answered", len(a.operations), len(names), answered)
	if answered == 0 {
		a.t.Error("no creation or deletion of a topic was answered")
	}
	for name, some := range names {
		if result := porcupine.CheckOperationsTimeout(existence, some, time.Minute); result != porcupine.Ok {
			a.t.Errorf("creations and deletions of topic %s: %v", name, result)
			slices.SortFunc(some, func(x, y porcupine.Operation) int { return cmp.Compare(x.Call, y.Call) })
			for _, o := range some {
				a.t.Logf("%8.3f to %8.3f s: create %v → %+v", time.Duration(o.Call).Seconds(), time.Duration(o.Return).Seconds(), o.Input.(change).create, o.Output)
			}
		}
	}
}
