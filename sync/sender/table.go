package sender

import (
	"cmp"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// table is the part of a buffer's map table that belongs to one lane. It only grows,
// and each row is durable before it is added. So a record that is sent again, by this
// process or the next, always finds the partition that it had.
type table struct {
	rows []weir.MapRow // by From

	// used is where a topic's newest row begins by which something is durable in the
	// cloud. A row is used only when everything before it is settled, so everything of
	// that topic below used is settled.
	used map[string]uint64
}

// newTable picks a lane's rows.
func newTable(rows []weir.MapRow, lane weir.Lane) *table {
	t := &table{used: map[string]uint64{}}
	for _, r := range rows {
		if r.Lane == lane {
			t.add(r)
		}
	}
	return t
}

// add inserts a row after all rows that begin at the same sequence or before it.
func (t *table) add(row weir.MapRow) {
	at, _ := slices.BinarySearchFunc(t.rows, row.From+1, func(r weir.MapRow, from uint64) int { return cmp.Compare(r.From, from) })
	t.rows = slices.Insert(t.rows, at, row)
}

// ids are the ids that a topic has had.
func (t *table) ids(topic string) map[weir.TopicID]bool {
	ids := map[weir.TopicID]bool{}
	for _, r := range t.rows {
		if r.Name == topic {
			ids[r.Topic] = true
		}
	}
	return ids
}

// find returns the row for a record of topic at seq: the last one that begins at or
// before it.
func (t *table) find(topic string, seq uint64) (weir.MapRow, bool) {
	for i := len(t.rows) - 1; i >= 0; i-- {
		if r := t.rows[i]; r.Name == topic && r.From <= seq {
			return r, true
		}
	}
	return weir.MapRow{}, false
}

// last returns the newest row of a topic.
func (t *table) last(topic string) (weir.MapRow, bool) {
	for i := len(t.rows) - 1; i >= 0; i-- {
		if t.rows[i].Name == topic {
			return t.rows[i], true
		}
	}
	return weir.MapRow{}, false
}

// topics lists each topic once.
func (t *table) topics() []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range t.rows {
		if !seen[r.Name] {
			seen[r.Name] = true
			out = append(out, r.Name)
		}
	}
	return out
}
