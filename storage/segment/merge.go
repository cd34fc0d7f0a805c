package segment

import "github.com/weirmq/weir/storage/record"

// Merge joins small neighbours among the batches of a partition, as
// record.MergeSmall does, where their offsets follow each other without a hole
// and one owner placed them. What it makes of them has their offsets and their
// leader epoch; all else comes back as it is, not copied. The batches are never
// changed, and together never get larger.
func Merge(batches []record.Batch) []record.Batch {
	merged := make([]record.Batch, 0, len(batches))
	for len(batches) > 0 {
		n := joinable(batches)
		if n < 2 {
			merged, batches = append(merged, batches[0]), batches[1:]
			continue
		}
		next, epoch := batches[0].BaseOffset(), batches[0].LeaderEpoch()
		for _, b := range record.MergeSmall(batches[:n]) {
			// Batches that were not joined have both already. They are
			// the caller's, perhaps shared, and not written to.
			if b.BaseOffset() != next || b.LeaderEpoch() != epoch {
				b.SetBaseOffset(next)
				b.SetLeaderEpoch(epoch)
			}
			merged, next = append(merged, b), b.NextOffset()
		}
		batches = batches[n:]
	}
	return merged
}

// joinable is how many of the first batches follow each other without a hole,
// between or in them, under one leader epoch.
func joinable(batches []record.Batch) int {
	for i, b := range batches {
		if !b.Dense() || i > 0 && !follows(batches[i-1], b) {
			return i
		}
	}
	return len(batches)
}

func follows(a, b record.Batch) bool {
	return a.NextOffset() == b.BaseOffset() && a.LeaderEpoch() == b.LeaderEpoch()
}
