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

// maxLags is how many pairs of a group and a topic the metrics show: those that
// are furthest behind.
const maxLags = 1_000

// lag is how far a group is behind in one topic.
type lag struct {
	group, topic string
	records      uint64
}

// TransactionEnded counts a transaction; see txn.Options.
func (b *Broker) TransactionEnded(how txn.Ending) { b.ended[how].Inc() }

// writeMetrics shows what only the owner of the shard knows, as it is at this
// moment. The others show nothing, and so does an owner in doubt: what it would
// say may no longer be true, and another may be saying it.
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
		return // it is the owner no more, and perhaps has only just noticed
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

// GroupLags returns how many records each group is behind, in all topics in which it
// has committed offsets. Groups without any are left out.
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

// lags adds up, for each group of the shards and each topic in which it has
// committed offsets, how far these are behind the ends of their partitions. That is
// what weirctl and Kafka's tools show: records of open transactions count, and so do
// offsets that compaction or retention have left without a record.
//
// Ends are read once for all groups: one that commits meanwhile may be ahead of
// them, which is no lag. Topics that are gone are left out.
func (b *Broker) lags(shards []*shard.Shard) ([]lag, error) {
	c, err := b.catalogue()
	if err != nil {
		return nil, err
	}
	var all []lag
	ends := make(map[group.Partition]int64)
	at := make(map[weir.TopicID]int) // where in all the group's topic is, -1 if it is gone
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
				if err != nil && !errors.Is(err, ErrUnknownTopic) { // which has gone just now
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

// furthest returns the n pairs that are furthest behind, by name, and how many
// others there are.
func furthest(all []lag, n int) (shown []lag, omitted int) {
	byName := func(a, b lag) int { return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.topic, b.topic)) }
	if len(all) > n {
		slices.SortFunc(all, func(a, b lag) int { return cmp.Or(cmp.Compare(b.records, a.records), byName(a, b)) })
		all, omitted = all[:n], len(all)-n
	}
	slices.SortFunc(all, byName)
	return all, omitted
}

// label writes a name that strangers have chosen as the value of a label. The
// format escapes three characters. A name that is not plain text is quoted first,
// and so is one that looks quoted, so that no two names become one.
func label(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.HasPrefix(name, `"`) {
		name = strconv.Quote(name)
	}
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name)
}
