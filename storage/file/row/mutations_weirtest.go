//go:build weirtest

package row

// mutations are the rules that a test breaks on purpose, to show that the races notice
// it. The zero value keeps every rule.
type mutations struct {
	acksUnseen bool // the appender does not check for `close` after the sync
	readsFirst bool // a process that closes a row reads its packs before `close` is there
	readsLast  bool // Get does not check after it has read a record whether it is deleted

	step func(at string) // called at each step of appending, of closing and of reading
}

func (m mutations) ackUnseen() bool { return m.acksUnseen }
func (m mutations) readFirst() bool { return m.readsFirst }

func (m mutations) readLast() bool { return m.readsLast }

func (m mutations) at(step string) {
	if m.step != nil {
		m.step(step)
	}
}
