package sender

import "github.com/weirmq/weir/sync/wire"

// table is the part of a buffer's map table that belongs to one lane. It only
// grows, and each row is durable before it is in here: a record that is sent
// again, by this process or the next, always finds the partition that it had.
type table struct {
	rows []Row
}

// newTable picks a lane's rows.
func newTable(rows []Row, lane wire.Lane) *table {
	t := &table{}
	for _, r := range rows {
		if r.Lane == lane {
			t.rows = append(t.rows, r)
		}
	}
	return t
}

// find returns the row that a record of topic at seq is sent by: the last one
// that begins at or before it.
func (t *table) find(topic string, seq uint64) (Row, bool) {
	for i := len(t.rows) - 1; i >= 0; i-- {
		if r := t.rows[i]; r.Topic == topic && r.From <= seq {
			return r, true
		}
	}
	return Row{}, false
}

// last returns the newest row of a topic.
func (t *table) last(topic string) (Row, bool) {
	for i := len(t.rows) - 1; i >= 0; i-- {
		if t.rows[i].Topic == topic {
			return t.rows[i], true
		}
	}
	return Row{}, false
}

// barrier returns the sequence before which everything must be settled before
// row may be used; 0 for a topic's first row, which nothing came before.
func (t *table) barrier(row Row) uint64 {
	for _, r := range t.rows {
		if r.Topic == row.Topic {
			if r == row {
				return 0
			}
			return row.From
		}
	}
	return 0
}

// topics lists each topic once.
func (t *table) topics() []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range t.rows {
		if !seen[r.Topic] {
			seen[r.Topic] = true
			out = append(out, r.Topic)
		}
	}
	return out
}
