package amqp091

import "github.com/weirmq/weir/cloud/amqp091/wire"

// confirmSelect performs confirm.select.
func (ch *channel) confirmSelect(m *wire.ConfirmSelect) error {
	if ch.tx != nil {
		return refused(wire.PreconditionFailed, "cannot switch from tx to confirm mode")
	}
	ch.c.mu.Lock()
	if ch.confirms == nil {
		ch.confirms = &confirms{first: 1}
	}
	ch.c.mu.Unlock()
	return ch.answer(m.NoWait, &wire.ConfirmSelectOk{})
}

// confirms are the publishes of a channel that are not confirmed. They are confirmed in
// their order, so that one method can confirm many.
type confirms struct {
	first uint64 // the number of all[0]
	all   []outcome
}

type outcome uint8

const (
	open outcome = iota
	acknowledged
	rejected
)

// next returns the number of the next publish.
func (f *confirms) next() uint64 {
	f.all = append(f.all, open)
	return f.first + uint64(len(f.all)) - 1
}

// settle records the outcome of a publish.
func (f *confirms) settle(number uint64, ok bool) {
	o := rejected
	if ok {
		o = acknowledged
	}
	f.all[number-f.first] = o
}

// take returns how many publishes from the first on have the same outcome, and removes
// them; n is 0 if the first is open.
func (f *confirms) take() (last uint64, n int, o outcome) {
	if len(f.all) == 0 || f.all[0] == open {
		return 0, 0, open
	}
	o = f.all[0]
	for n < len(f.all) && f.all[n] == o {
		n++
	}
	f.first += uint64(n)
	if f.all = f.all[n:]; len(f.all) == 0 {
		f.all = nil
	}
	return f.first - 1, n, o
}

// emitConfirms writes the confirms that are due. The caller holds conn.mu.
func (ch *channel) emitConfirms() {
	if ch.confirms == nil || ch.over && ch.failed != nil {
		return
	}
	for {
		last, n, o := ch.confirms.take()
		if n == 0 {
			return
		}
		var m wire.Method = &wire.BasicAck{DeliveryTag: last, Multiple: n > 1}
		if o == rejected {
			m = &wire.BasicNack{DeliveryTag: last, Multiple: n > 1}
		}
		if err := ch.c.out.Method(ch.id, m); err != nil {
			ch.c.cancel(err)
			return
		}
	}
}
