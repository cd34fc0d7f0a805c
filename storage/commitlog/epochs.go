package commitlog

import (
	"slices"
)

// epochStart says from which offset on the records of a partition have a leader
// epoch.
type epochStart struct {
	epoch int32
	start int64
}

// maxEpochs bounds the epochs that a partition remembers. When there are more,
// the records of the second oldest are told of as the oldest's: who asks where the
// oldest ended is sent too far on, never back.
const maxEpochs = 512

// epochs is which leader epochs a partition has records of, ascending in epoch and
// start (KIP-101, KIP-320). The first one begins where the partition does.
type epochs []epochStart

// begin notes that a run of an epoch was appended.
func (es epochs) begin(epoch int32, base int64) epochs {
	if n := len(es); n > 0 && es[n-1].epoch >= epoch {
		return es
	} else if n > 0 && es[n-1].start == base {
		es = es[:n-1] // its records were all trimmed away
	}
	if es = append(es, epochStart{epoch, base}); len(es) > maxEpochs {
		es = slices.Delete(es, 1, 2)
	}
	return es
}

// trim forgets the epochs that end at or below start; the newest one never.
func (es epochs) trim(start int64) epochs {
	n := 0
	for n+1 < len(es) && es[n+1].start <= start {
		n++
	}
	es = slices.Delete(es, 0, n)
	if len(es) > 0 {
		es[0].start = max(es[0].start, start)
	}
	return es
}

// end returns the largest epoch that is not above asked, -1 if there is none, and
// the offset where the next one begins, end if it is the newest.
func (es epochs) end(asked int32, end int64) (int32, int64) {
	found := int32(-1)
	for _, x := range es {
		if x.epoch > asked {
			return found, x.start
		}
		found = x.epoch
	}
	return found, end
}

// hold says whether a batch at an offset may have that epoch.
func (es epochs) hold(epoch int32, offset int64) bool {
	i, found := slices.BinarySearchFunc(es, offset, func(x epochStart, offset int64) int {
		return int(min(max(x.start-offset, -1), 1))
	})
	if !found {
		i--
	}
	return (i < 0 || es[i].epoch <= epoch) && (i+1 >= len(es) || epoch < es[i+1].epoch)
}
