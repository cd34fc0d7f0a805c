package txn

import "github.com/weirmq/weir/storage/commitlog/state"

// Append passes a transactional batch to the log if its partition is part of the
// producer's transaction, or becomes so: Coordinator.Append for a partition of another
// shard than the coordinator's. The first batch in a partition waits until the coordinator
// has answered, and so do those that come meanwhile. done is called as by
// commitlog.Log.Append.
//
// Errors besides those of the log: those of Coordinator.Verify, ErrConcurrent,
// ErrUnavailable: the coordinator does not answer.
func (p *Participant) Append(a Appended, done func(base int64, err error)) {
	part := Part{
		ID: a.ID, Producer: Producer{a.Batch.ProducerID(), a.Batch.ProducerEpoch()},
		Place: state.Place{Topic: a.Topic, Partition: a.Partition}, Implicit: a.Implicit,
	}
	if part.Producer.ID < 0 {
		done(-1, ErrUnknownID)
		return
	}
	p.mu.Lock()
	if !p.serving {
		p.mu.Unlock()
		done(-1, ErrClosed)
		return
	}
	x := p.of(part.Producer.ID)
	pass := func(err error) {
		if err != nil {
			done(-1, err)
			return
		}
		p.log.Append(a.Append, func(base int64, err error) {
			p.done(x)
			done(base, err)
		})
	}
	if number, ok := x.verified[part]; ok {
		err := p.admit(x, number)
		p.mu.Unlock()
		pass(err)
		return
	}
	defer p.mu.Unlock()
	line, ok := x.asking[part]
	if !ok {
		line = new(waiting)
		x.asking[part] = line
		p.running.Go(func() { p.ask(x, part, line) })
	}
	*line = append(*line, pass)
}

// ask asks the coordinator about a part, and passes on what waits for the answer. Batches
// that come in the meantime stand in the same line, so that all keep their order. If the
// answer is of no use to those, the coordinator is asked again.
func (p *Participant) ask(x *participation, part Part, line *waiting) {
	for {
		number, failed := p.verify(p.ctx, part)
		for fresh := true; ; fresh = false {
			some, admitted, left := p.next(x, part, line, number, failed, fresh)
			if left {
				break
			}
			if len(some) == 0 {
				return
			}
			for i := range some {
				some[i](admitted[i])
			}
		}
	}
}

// next takes what is in line, and decides about it. If nothing is, the coordinator need
// not be asked again, or has to be when something comes. fresh says that all in line have
// waited for the answer; left, that those which have not are left in line, because it was
// an error, or about a transaction that has ended.
func (p *Participant) next(x *participation, part Part, line *waiting, number uint64, failed error, fresh bool) (some waiting, admitted []error, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(*line) == 0 {
		delete(x.asking, part)
		if failed == nil && x.open == number {
			x.verified[part] = number
		}
		p.drop(x)
		return nil, nil, false
	}
	if !fresh && (failed != nil || number <= x.ended) && p.ctx.Err() == nil {
		return nil, nil, true
	}
	some, *line = *line, nil
	for range some {
		err := failed
		if err == nil {
			err = p.admit(x, number)
		}
		admitted = append(admitted, err)
	}
	return some, admitted, false
}
