package txn

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// pair is two shards with real logs; shard 0 has the transactional id.
type pair struct {
	logs   [2]*commitlog.Log
	txns   [2]*Coordinator
	parts  [2]*Participant
	groups [2]*group.Coordinator
}

func (p *pair) ShardOf(s weir.Slice) uint32 { return newLayout(2)[s] }
func (p *pair) Verify(ctx context.Context, x Part) (uint64, error) {
	return p.txns[0].Verify(ctx, x)
}
func (p *pair) End(ctx context.Context, shard uint32, d Decision) error {
	return p.parts[shard].End(ctx, d)
}

func openPair(t *testing.T, b storage.Bucket) *pair {
	t.Helper()
	p, quiet := new(pair), slog.New(slog.DiscardHandler)
	for i := range p.logs {
		p.groups[i] = group.New(group.Options{Log: quiet, NoHistory: true})
		o := Options{Shard: uint32(i), Shards: p, Groups: p.groups[i], Log: quiet}
		p.txns[i], p.parts[i] = New(o), NewParticipant(o)
		l, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: b, Shard: uint32(i), Shards: 2, Node: "a", Log: quiet, Machines: []state.Machine{p.groups[i], p.txns[i], p.parts[i]}})
		if err != nil {
			t.Fatal(err)
		}
		p.logs[i] = l
		log := machine.WaitingLog{Log: l, Catalogue: &machine.Topics{
			All:  func() []state.Topic { return nil },
			ByID: func(id weir.TopicID) (state.Topic, bool) { return state.Topic{ID: id}, true },
		}}
		p.groups[i].Start(t.Context(), log)
		p.txns[i].Start(t.Context(), log)
		p.parts[i].Start(t.Context(), log)
		t.Cleanup(func() {
			if err := errors.Join(p.txns[i].Close(), p.parts[i].Close(), p.groups[i].Close(), l.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	return p
}

// TestCheckShards: sound shards have no problem whatever is under way; each break of a rule
// is found.
func TestCheckShards(t *testing.T) { synctest.Test(t, checkShards) }

func checkShards(t *testing.T) {
	b := mem.New()
	p := openPair(t, b)
	if err := p.logs[1].OpenTopic(t.Context(), state.Topic{ID: topicA, Name: "a", Partitions: 2}, journal.Position{Epoch: 1, Slot: 1}); err != nil {
		t.Fatal(err)
	}
	who, err := p.txns[0].InitProducerID(t.Context(), InitRequest{ID: id, Timeout: minute})
	wants(t, err, nil)
	send := func(who Producer, sequence int32) {
		t.Helper()
		answer := make(chan error, 1)
		p.parts[1].Append(Appended{Append: commitlog.Append{Topic: topicA, Partition: 1, Batch: recordtest.Transactional(who.ID, who.Epoch, sequence, "x")}, ID: id, Implicit: true},
			func(_ int64, err error) { answer <- err })
		wants(t, <-answer, nil)
	}
	finds := func(want string) {
		t.Helper()
		problems, err := CheckShards(t.Context(), b, 2)
		if err != nil || len(problems) == 0 != (want == "") || !slices.ContainsFunc(append(problems, ""), func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%q, %v; want %q", problems, err, want)
		}
	}
	send(who, 0)
	_, err = p.parts[1].CommitOffsets(t.Context(), offsetRequest(1, who, 3, true))
	wants(t, err, nil)
	finds("")
	_, err = p.txns[0].End(t.Context(), EndRequest{ID: id, Producer: who, Commit: true})
	wants(t, err, nil)
	send(who, 1)
	finds("")

	stranger := make(chan error, 1) // nobody asked a coordinator
	p.logs[1].Append(commitlog.Append{Topic: topicA, Partition: 1, Batch: recordtest.Transactional(77, 0, 0, "x")}, func(_ int64, err error) { stranger <- err })
	wants(t, <-stranger, nil)
	finds("producer 77 that is open from offset 3 on")
	wants(t, p.logs[1].ProposeAll(t.Context(), nil, &commitlog.TransactionEnd{Producer: 77, Partitions: []state.Place{placeIn(1)}}), nil)
	finds("")
	staged := encodeStaged(78, 4, 1, "g", []group.Offset{{Offset: 1}})
	wants(t, p.logs[1].Propose(t.Context(), staged.Kind, staged.Body), nil)
	finds("offsets of transaction 4 of producer 78 are staged")
	ended := encodeEnded(78, 4, 1)
	wants(t, p.logs[1].Propose(t.Context(), ended.Kind, ended.Body), nil)
	finds("")
	ended = encodeEnded(who.ID, 9, 1)
	wants(t, p.logs[1].Propose(t.Context(), ended.Kind, ended.Body), nil)
	finds("transaction 9 of producer")
}
