package state

import (
	"slices"
)

// epochStart says from which offset on the records of a partition have a leader
// epoch.
type epochStart struct {
	Epoch int32
	Start int64
}

// maxEpochs bounds the epochs that a partition remembers. When there are more, the
// records of the second oldest count as the oldest's. The answer to where the oldest
// epoch ended is then too high, never too low.
const maxEpochs = 512

// Epochs lists the leader epochs of which a partition has records, ascending in epoch
// and start (KIP-101, KIP-320). The first one begins where the partition does.
type Epochs []epochStart

// Begin notes that a run of an epoch was appended.
func (es Epochs) Begin(epoch int32, base int64) Epochs {
	if n := len(es); n > 0 && es[n-1].Epoch >= epoch {
		return es
	} else if n > 0 && es[n-1].Start == base {
		es = es[:n-1] // its records were all trimmed away
	}
	if es = append(es, epochStart{epoch, base}); len(es) > maxEpochs {
		es = slices.Delete(es, 1, 2)
	}
	return es
}

// trim forgets the epochs that end at or below start, but never the newest one.
func (es Epochs) trim(start int64) Epochs {
	n := 0
	for n+1 < len(es) && es[n+1].Start <= start {
		n++
	}
	es = slices.Delete(es, 0, n)
	if len(es) > 0 {
		es[0].Start = max(es[0].Start, start)
	}
	return es
}

// End returns the largest epoch that is not above asked, -1 if there is none, and
// the offset where the next one begins, end if it is the newest.
func (es Epochs) End(asked int32, end int64) (int32, int64) {
	found := int32(-1)
	for _, x := range es {
		if x.Epoch > asked {
			return found, x.Start
		}
		found = x.Epoch
	}
	return found, end
}

// Hold reports whether a batch at an offset may have that epoch.
func (es Epochs) Hold(epoch int32, offset int64) bool {
	i, found := slices.BinarySearchFunc(es, offset, func(x epochStart, offset int64) int {
		return int(min(max(x.Start-offset, -1), 1))
	})
	if !found {
		i--
	}
	return (i < 0 || es[i].Epoch <= epoch) && (i+1 >= len(es) || epoch < es[i+1].Epoch)
}
