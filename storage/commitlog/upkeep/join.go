package upkeep

import (
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// Pieces of less than 1/smallPiece of a segment are small. A row of at least this many
// small neighbours becomes one piece.
const (
	smallPiece = 16
	manySmall  = 32
)

// join makes one piece of many small neighbours: a partition with few records gets a
// small one in each pass. It also copies what is left in slots that serve as segments
// and of which less than half is alive, so that they can be deleted. The new pieces are
// dirty, like the old ones.
func (m *Maintainer) join() error {
	w := &rewriter{m: m}
	for key, rows := range m.small() {
		for _, pieces := range rows {
			c := &cleaning{m: m, key: key, moves: pieces[0].Segment.Slot}
			if err := m.unreadable(key, c.rewrite(w, pieces)); err != nil {
				return err
			}
		}
	}
	return w.finish()
}

// small finds rows of small dirty pieces, and pieces in sparse slots.
func (m *Maintainer) small() map[state.Place][][]state.Piece {
	var sparse map[journal.Position]bool
	partitions := make(map[state.Place][]state.Piece)
	m.log.View(func(s *state.State) {
		sparse = s.Slots.Sparse()
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if len(p.Pieces) > 0 && !m.skipped[p.Key] {
					partitions[p.Key] = p.Pieces
				}
			}
		}
	})
	all := make(map[state.Place][][]state.Piece)
	for key, pieces := range partitions {
		if rows := m.smallOf(pieces, sparse); len(rows) > 0 {
			all[key] = rows
		}
	}
	return all
}

func (m *Maintainer) smallOf(pieces []state.Piece, sparse map[journal.Position]bool) (rows [][]state.Piece) {
	from := 0
	for i := 0; i <= len(pieces); i++ {
		if i < len(pieces) {
			x := &pieces[i]
			if x.Segment.Slot && len(sparse) > 0 && sparse[x.Segment.Position()] {
				rows = append(rows, pieces[i:i+1])
			}
			if !x.Segment.Clean() && !x.Segment.Slot && int(x.Size) < m.o.Segment/smallPiece {
				continue
			}
		}
		if i-from >= manySmall {
			rows = append(rows, pieces[from:i])
		}
		from = i + 1
	}
	return rows
}
