package measure

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// maxLags bounds the pairs of a group and a topic that the metrics show, and those of a
// share group and a topic. Those that are furthest behind are shown.
const maxLags = 1_000

// writeCoordination writes the metrics of groups and transactions.
func writeCoordination(out *bytes.Buffer, c broker.Coordination) {
	states, members := make(map[group.State]int), 0
	for _, g := range c.Groups {
		states[g.State]++
		members += g.Members
	}
	for _, state := range []group.State{group.Empty, group.PreparingRebalance, group.CompletingRebalance, group.Stable, group.Reconciling} {
		metrics.WriteGaugeUint64(out, fmt.Sprintf("weir_groups{state=%q}", state), uint64(states[state]))
	}
	metrics.WriteGaugeUint64(out, "weir_group_members", uint64(members))
	lags := slices.DeleteFunc(slices.Clone(c.Lags), func(l broker.Lag) bool { return l.Unknown > 0 }) // a part of a lag would look like progress
	shown, omitted := furthest(lags, maxLags, func(l *broker.Lag) *broker.Lag { return l })
	for _, l := range shown {
		metrics.WriteGaugeUint64(out, fmt.Sprintf(`weir_group_lag_records{group="%s",topic="%s"}`, label(l.Group), label(l.Topic)), l.Records)
	}
	metrics.WriteGaugeUint64(out, "weir_group_lag_omitted_pairs", uint64(omitted))
	metrics.WriteGaugeUint64(out, "weir_group_lag_unknown_pairs", uint64(len(c.Lags)-len(lags)))
	writeSharing(out, c.Sharing)
	metrics.WriteGaugeUint64(out, "weir_transactions_open", uint64(c.Transactions))
}

// writeSharing writes the metrics of share groups.
func writeSharing(out *bytes.Buffer, all []broker.Sharing) {
	shown, omitted := furthest(all, maxLags, func(s *broker.Sharing) *broker.Lag { return &s.Lag })
	for _, s := range shown {
		of := fmt.Sprintf(`group="%s",topic="%s"`, label(s.Group), label(s.Topic))
		metrics.WriteGaugeUint64(out, fmt.Sprintf("weir_share_group_lag_records{%s}", of), s.Records)
		metrics.WriteGaugeUint64(out, fmt.Sprintf("weir_share_group_acquired_records{%s}", of), s.Acquired)
		metrics.WriteCounterUint64(out, fmt.Sprintf(`weir_share_group_records_total{%s,end="accepted"}`, of), s.Accepted)
		metrics.WriteCounterUint64(out, fmt.Sprintf(`weir_share_group_records_total{%s,end="rejected"}`, of), s.Rejected)
		metrics.WriteCounterUint64(out, fmt.Sprintf(`weir_share_group_records_total{%s,end="archived"}`, of), s.Archived)
		metrics.WriteCounterUint64(out, fmt.Sprintf(`weir_share_group_dead_letters_total{%s,copied="true"}`, of), s.Copied)
		metrics.WriteCounterUint64(out, fmt.Sprintf(`weir_share_group_dead_letters_total{%s,copied="false"}`, of), s.Uncopied)
	}
	metrics.WriteGaugeUint64(out, "weir_share_group_omitted_pairs", uint64(omitted))
}

// furthest returns the n pairs that are furthest behind, by name, and the number of
// the other pairs.
func furthest[P any](all []P, n int, of func(*P) *broker.Lag) (shown []P, omitted int) {
	byName := func(a, b P) int {
		return cmp.Or(cmp.Compare(of(&a).Group, of(&b).Group), cmp.Compare(of(&a).Topic, of(&b).Topic))
	}
	if len(all) > n {
		slices.SortFunc(all, func(a, b P) int { return cmp.Or(cmp.Compare(of(&b).Records, of(&a).Records), byName(a, b)) })
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
