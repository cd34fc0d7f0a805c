//go:build weirtest

package commitlog

import (
	"context"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// What the state says of transactions and epochs is compared with what lies in
// segments, and in slots before the checkpoint.
func TestCheckFindsWrongLedger(t *testing.T) {
	ctx := context.Background()
	segments := mem.New()
	l := open(t, segments)
	topic := createTopic(t, l, "t", 1)
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 0, "a", "b")})
	must(l.ProposeAll(ctx, nil, finish(topic.ID, 0, false, 0)))
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 2, "c")})
	must(l.ProposeAll(ctx, nil, finish(topic.ID, 0, true, 0)))
	appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Transactional(7, 0, 3, "d")})
	maintained(t, l)
	must(l.Close())
	sound(t, segments)

	for name, c := range map[string]struct {
		spoil func(*state.Partition)
		want  string
	}{
		"nothing":            {func(*state.Partition) {}, ""},
		"abort is not known": {func(p *state.Partition) { p.Aborted = nil }, "the log says aborted: false"},
		"commit is an abort": {func(p *state.Partition) {
			p.Aborted = append(p.Aborted, state.Abort{Aborted: state.Aborted{Producer: 7, First: 3, Last: 4}, Stable: 5})
		}, "the log says aborted: true"},
		"abort without end": {func(p *state.Partition) {
			p.Aborted = append(p.Aborted, state.Abort{Aborted: state.Aborted{Producer: 8, First: 3, Last: 3}, Stable: 5})
		}, "a transaction of producer 8 has a batch at offset 3"},
		"another's abort":      {func(p *state.Partition) { p.Aborted[0].Producer = 8 }, "the log says aborted: false"},
		"open without begin":   {func(p *state.Partition) { p.Producers.Open[9] = &state.Producer{Open: true, First: 5} }, "a transaction of producer 9 has"},
		"begins in the middle": {func(p *state.Partition) { p.Producers.Open[7].First = 1 }, "has a batch at offset 1"},
		"epoch":                {func(p *state.Partition) { p.Epochs = state.Epochs{{Epoch: 2, Start: 0}} }, "leader epoch 1, the log says"},
		"start":                {func(p *state.Partition) { p.Start = 6 }, "beyond its last stable one 5"},
	} {
		problems, err := check.Spoiler(func(s *state.State) {
			c.spoil(s.Partition(state.Place{Topic: topic.ID, Partition: 0}))
		}).Problems(ctx, segments)
		must(err)
		all := strings.Join(problems, "\n")
		if !strings.Contains(all, c.want) || (all == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", name, all, c.want)
		}
	}
}
