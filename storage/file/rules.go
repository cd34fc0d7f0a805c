package file

// rules names what a test breaks on purpose, to see that the races notice it.
// The zero value keeps every rule; nothing but tests sets a field.
type rules struct {
	ackUnseen bool // the appender does not look for `close` after the sync
	readFirst bool // whoever closes a row reads its packs before `close` is there

	step func(at string) // called at each step of appending and of closing
}

func (r *rules) at(step string) {
	if r.step != nil {
		r.step(step)
	}
}
