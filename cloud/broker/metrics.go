package broker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/weir"
)

// maxLags bounds the pairs of a group and a topic that the metrics show. Those that
// are furthest behind are shown.
const maxLags = 1_000

// lag is how far a group is behind in one topic.
type lag struct {
	group, topic string
	records      uint64
}

// TransactionEnded counts a transaction; see txn.Options.
func (b *Broker) TransactionEnded(how txn.Ending) { b.ended[how].Inc() }

// writeMetrics shows what only the owner of the shard knows. Other nodes show
// nothing, and neither does an owner in doubt: its values may be stale, and another
// owner may already show its own.
func (b *Broker) writeMetrics(w io.Writer) {
	shards, err := b.owned()
	if err != nil {
		return
	}
	states := make(map[group.State]int)
	var members, open int
	for _, s := range shards {
		stats, err := s.Groups.Stats()
		if err != nil {
			return
		}
		for state, n := range stats.Groups {
			states[state] += n
		}
		members += stats.Members
		open += s.Txns.Open()
	}
	lags, err := b.lags(shards)
	if err != nil || slices.ContainsFunc(shards, func(s *shard.Shard) bool { return s.Log.Err() != nil }) {
		return // no longer the owner; it may have only just noticed
	}
	var out bytes.Buffer
	for _, state := range []group.State{group.Empty, group.PreparingRebalance, group.CompletingRebalance, group.Stable, group.Reconciling} {
		metrics.WriteGaugeUint64(&out, fmt.Sprintf("weir_groups{state=%q}", state), uint64(states[state]))
	}
	metrics.WriteGaugeUint64(&out, "weir_group_members", uint64(members))
	shown, omitted := furthest(lags, maxLags)
	for _, l := range shown {
		metrics.WriteGaugeUint64(&out, fmt.Sprintf(`weir_group_lag_records{group="%s",topic="%s"}`, label(l.group), label(l.topic)), l.records)
	}
	metrics.WriteGaugeUint64(&out, "weir_group_lag_omitted_pairs", uint64(omitted))
	metrics.WriteGaugeUint64(&out, "weir_transactions_open", uint64(open))
	_, _ = w.Write(out.Bytes())
}

// GroupLags returns how many records each group is behind, over all topics in which
// it has committed offsets. Groups without offsets are left out.
func (b *Broker) GroupLags() (map[string]int64, error) {
	shards, err := b.owned()
	if err != nil {
		return nil, err
	}
	lags, err := b.lags(shards)
	all := make(map[string]int64)
	for _, l := range lags {
		all[l.group] += int64(l.records)
	}
	return all, err
}

// lags adds up, for each group of the shards and each topic in which it has committed
// offsets, how far these are behind the ends of their partitions. That is what
// weirctl and Kafka's tools show: records of open transactions count, and so do
// offsets whose records compaction or retention has removed.
//
// Ends are read once for all groups. A group that commits meanwhile may be ahead of
// them, which counts as no lag. Deleted topics are left out.
func (b *Broker) lags(shards []*shard.Shard) ([]lag, error) {
	c, err := b.catalogue()
	if err != nil {
		return nil, err
	}
	var all []lag
	ends := make(map[group.Partition]int64)
	at := make(map[weir.TopicID]int) // index in all of the group's topic, -1 if it was deleted
	var failed error
	add := func(name string, committed []group.Position) {
		clear(at)
		for _, o := range committed {
			i, seen := at[o.Topic]
			if !seen {
				i = -1
				if topic, ok := c.Log.TopicByID(o.Topic); ok {
					i = len(all)
					all = append(all, lag{group: name, topic: topic.Name})
				}
				at[o.Topic] = i
			}
			if i < 0 {
				continue
			}
			end, known := ends[o.Partition]
			var err error
			if !known {
				_, end, err = b.Bounds(o.Topic, o.Index)
				if err != nil && !errors.Is(err, ErrUnknownTopic) { // the topic was just deleted
					failed = err
				}
				ends[o.Partition] = end
			}
			all[i].records += uint64(max(end-o.Offset, 0))
		}
	}
	for _, s := range shards {
		if err := s.Groups.EachCommitted(add); err != nil {
			return nil, err
		}
	}
	return all, failed
}

// furthest returns the n pairs that are furthest behind, by name, and the number of
// the other pairs.
func furthest(all []lag, n int) (shown []lag, omitted int) {
	byName := func(a, b lag) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.topic, b.topic)) }
	if len(all) > n {
		slices.SortFunc(all, func(a, b lag) int { return cmp.Or(cmp.Compare(b.records, a.records), byName(a, b)) })
		all, omitted = all[:n], len(all)-n
	}
	slices.SortFunc(all, byName)
	return all, omitted
}

// label writes a name that clients have chosen as the value of a label. The format
// escapes three characters. A name that is not plain text is quoted first, and so is
// one that looks quoted, so that no two names become the same label.
func label(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.HasPrefix(name, `"`) {
		name = strconv.Quote(name)
	}
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name)
}
