package queue

import (
	"context"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/weir"
)

// A durable reader publishes in a vhost what it reads elsewhere, in the partitions of
// topics. How far it has read each of them is part of the vhost's state. So the next owner
// goes on where the one before has published last, whatever became of the answers.

// take adds the positions that hold when the first n publications of their Work are
// durable, and returns the others. Of a partition it keeps the last one.
func (p *parcel) take(all []Position, n int) (rest []Position) {
	for len(all) > 0 && all[0].After <= n {
		next := all[0]
		all = all[1:]
		if last := len(p.read) - 1; last >= 0 && p.read[last].Reader == next.Reader && p.read[last].Partition == next.Partition {
			p.read[last] = next
			continue
		}
		p.read = append(p.read, next)
	}
	return all
}

// positions returns the entries with what readers have read, one for each of them in turn.
func (p *parcel) positions() (all []commitlog.Command) {
	var some []state.Position
	for i := range p.read {
		some = append(some, p.read[i].Position)
		if last := i+1 == len(p.read); last || p.read[i+1].Reader != p.read[i].Reader {
			body := state.EncodePositions(p.host.topic, p.read[i].Reader, some)
			all, some = append(all, commitlog.Command{Kind: state.KindPosition, Body: body}), nil
		}
	}
	return all
}

// Positions returns how far a durable reader of a vhost has read, by topic and partition,
// as far as that is durable. It waits until the engine serves. Errors: ErrNoVhost,
// ErrClosed, ErrStarting.
func (e *Engine) Positions(ctx context.Context, vhost, reader string) ([]state.Position, error) {
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return nil, err
	}
	return v.Positions(reader), nil
}

// IsSource reports whether anything is bound to an exchange. The id tells the vhost from
// others that have its name, before and after. Errors: ErrNoVhost, ErrClosed, ErrStarting.
func (e *Engine) IsSource(vhost, exchange string) (bound bool, id weir.TopicID, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return false, id, err
	}
	return v.Table.IsSource(exchange), v.Topic, nil
}

// MayReach reports whether a message with this key may reach a queue from an exchange, as
// routing.Table.MayReach does.
func (e *Engine) MayReach(vhost, exchange, key string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	return err == nil && v.Table.MayReach(exchange, key)
}

// Hooks are called when what a vhost consists of changes.
type Hooks struct {
	// Binding is called before a binding becomes part of the log, and done when the one
	// who asked for it has got the answer. What Binding submits comes before the binding.
	// After an error the binding is not made. reads is false in BindOnly.
	Binding func(ctx context.Context, vhost string, b *routing.Binding, reads bool) (done func(), err error)

	// Declared is called when declarations of a vhost were carried out, before the ones
	// who asked for them get the answers. It must not block, and must not call the Engine.
	Declared func(vhost string)
}

// Hook sets the hooks, both. It is called before the Engine has clients.
func (e *Engine) Hook(h Hooks) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hooks = &h
}

// binding calls the hook of that name.
func (e *Engine) binding(ctx context.Context, vhost string, b *routing.Binding, reads bool) (done func(), err error) {
	e.mu.Lock()
	h := e.hooks
	e.mu.Unlock()
	if h == nil {
		return func() {}, nil
	}
	return h.Binding(ctx, vhost, b, reads)
}
