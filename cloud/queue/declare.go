package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// A declaration changes the queues, exchanges or bindings of a vhost. It is a wish: the
// state decides when it applies the entry, in the order of the log. So the wishes of many
// clients share an entry, and none of them waits for the check of another one.

// wish is a declaration on its way.
type wish struct {
	vhost       string
	declaration state.Declaration
	result      chan error // capacity 1
}

// declarer writes the wishes of a vhost: those that come while an entry is on its way
// share the next one.
type declarer struct {
	waiting []wish
	flying  []wish // of the entry on its way
}

// mostWishes bounds the declarations of one entry. Each has come in a frame.
const mostWishes = 100

// wish makes a declaration durable and returns what the state says of it. When ctx ends
// first, it may still be carried out. One that no entry can have is ErrInvalid.
func (e *Engine) wish(ctx context.Context, vhost string, d state.Declaration) error {
	if e.log.Level() < 2 {
		return machine.ErrLevel
	}
	if err := d.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	w := wish{vhost, d, make(chan error, 1)}
	e.mu.Lock()
	if e.phase == closed {
		e.mu.Unlock()
		return ErrClosed
	}
	of := e.wishes[vhost]
	if of == nil {
		of = new(declarer)
		e.wishes[vhost] = of
		e.tasks.run(func() { e.declare(vhost, of) })
	}
	of.waiting = append(of.waiting, w)
	e.mu.Unlock()
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// declare writes the wishes of a vhost until there are none.
func (e *Engine) declare(vhost string, of *declarer) {
	for {
		e.mu.Lock()
		of.flying = of.waiting[:min(len(of.waiting), mostWishes)]
		of.waiting = of.waiting[len(of.flying):]
		if len(of.flying) == 0 {
			delete(e.wishes, vhost)
			e.mu.Unlock()
			return
		}
		flying := of.flying
		e.mu.Unlock()
		all := make([]state.Declaration, len(flying))
		for i := range flying {
			all[i] = flying[i].declaration
		}
		// Not with e.ctx: the entry could be applied after that has ended, and be taken
		// for the next one. The log answers, also when it ends.
		err := e.log.Propose(context.WithoutCancel(e.ctx), state.KindDeclare, state.EncodeDeclare(vhost, all))
		if err == nil {
			continue // declared has answered
		}
		err = fmt.Errorf("%w: %w", ErrClosed, err)
		e.mu.Lock()
		for _, w := range of.flying { // none if the entry was applied after all
			w.result <- err
		}
		of.flying = nil
		e.mu.Unlock()
	}
}

// declared answers the wishes of the entry that was just applied. The caller holds mu.
func (e *Engine) declared(c *state.Changes) {
	of := e.wishes[c.Vhost]
	if of == nil || len(of.flying) != len(c.Results) {
		return // not of this engine
	}
	for i, w := range of.flying {
		w.result <- c.Results[i]
	}
	of.flying = nil
}

// CreateVhost creates a vhost if there is none of that name.
func (e *Engine) CreateVhost(ctx context.Context, name string) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	if !e.o.Here(name) {
		return fmt.Errorf("%w: another shard has vhost %s", ErrClosed, name)
	}
	return e.createVhost(ctx, name)
}

func (e *Engine) createVhost(ctx context.Context, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%w: a vhost's name has 1 to %d bytes", ErrInvalid, maxName)
	}
	leave, ok := e.gate.Enter(weir.SliceOfVhost(name))
	if !ok {
		return fmt.Errorf("%w: vhost %s belongs to another shard now, or is about to", ErrClosed, name)
	}
	defer leave()
	if err := e.takeTurn(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	e.mu.Lock()
	known := e.state.Vhost(name) != nil
	e.mu.Unlock()
	if known {
		return nil
	}
	if e.log.Level() < 2 {
		return machine.ErrLevel
	}
	topic, err := e.createMessages(ctx, name)
	if err != nil {
		return err
	}
	err = e.wish(ctx, name, state.Declaration{CreateVhost: &state.VhostCreated{Topic: topic.ID}})
	if errors.Is(err, state.ErrExists) {
		return nil
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if v := e.state.Vhost(name); v != nil {
		e.serveVhost(v)
	}
	return nil
}

// takeTurn waits until nobody else creates or deletes a vhost: a vhost that is created
// must not get the messages of an earlier one of its name, which is about to be deleted.
func (e *Engine) takeTurn(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *Engine) endTurn() { <-e.turn }

// createMessages creates the topic that has the messages of a vhost, or returns the one
// that an earlier try has left.
func (e *Engine) createMessages(ctx context.Context, vhost string) (logstate.Topic, error) {
	name := messagesTopic(vhost)
	topic, err := e.log.CreateTopicIn(ctx, weir.SliceOfVhost(vhost), name)
	if errors.Is(err, commitlog.ErrTopicExists) {
		for _, t := range e.log.Log.Topics() { // of this shard
			if t.Name == name {
				return t, nil
			}
		}
	}
	return topic, err
}

// messagesTopic returns the name of the topic that has the messages of a vhost: the name
// of the vhost as far as topics can have it, and a hash that tells vhosts apart.
func messagesTopic(vhost string) string {
	readable := strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '_' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z') {
			return r
		}
		return '_'
	}, vhost)
	sum := sha256.Sum256([]byte(vhost))
	return weir.VhostTopics + readable[:min(len(readable), 64)] + "." + hex.EncodeToString(sum[:8])
}

// maxName is the longest name of a vhost, a queue or an exchange, in bytes.
const maxName = 255

// DeleteVhost deletes a vhost with all that is in it. Its consumers are cancelled.
func (e *Engine) DeleteVhost(ctx context.Context, name string) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	leave, ok := e.gate.Enter(weir.SliceOfVhost(name)) // its messages are gone before the slice moves
	if !ok {
		return fmt.Errorf("%w: vhost %s belongs to another shard now, or is about to", ErrClosed, name)
	}
	defer leave()
	if err := e.takeTurn(ctx); err != nil {
		return err
	}
	defer e.endTurn()
	e.mu.Lock()
	v, err := e.vhost(name)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if err := e.wish(ctx, name, state.Declaration{DeleteVhost: true}); err != nil {
		return err
	}
	if err := e.log.DeleteTopic(ctx, v.Topic); err != nil {
		return fmt.Errorf("delete the messages of vhost %s: %w", name, err)
	}
	return nil
}

// Vhosts returns the names of the vhosts, in order.
func (e *Engine) Vhosts() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, v := range e.state.Vhosts() {
		names = append(names, v.Name)
	}
	return names
}

// HasVhost reports whether there is such a vhost. It waits until the engine serves.
func (e *Engine) HasVhost(ctx context.Context, name string) (bool, error) {
	if err := e.open(ctx); err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.vhost(name)
	if errors.Is(err, ErrNoVhost) {
		return false, nil
	}
	return err == nil, err
}

// OpenVhost is HasVhost for a client that is about to use the vhost: it creates the default
// vhost, if that belongs to this shard and is Late.
func (e *Engine) OpenVhost(ctx context.Context, name string) (bool, error) {
	has, err := e.HasVhost(ctx, name)
	if has || err != nil || name != DefaultVhost || !e.o.Late || !e.o.Here(name) || e.log.Level() < 2 {
		return has, err
	}
	e.mu.Lock()
	ended := e.ended
	e.mu.Unlock()
	if ended {
		return false, nil
	}
	if err := e.createVhost(ctx, name); err != nil {
		return false, fmt.Errorf("create vhost %s: %w", name, err)
	}
	return true, nil
}

// DeclareExchange creates an exchange, unless there is an equivalent one. Errors:
// *routing.Error, ErrNoVhost, ErrClosed.
func (e *Engine) DeclareExchange(ctx context.Context, vhost string, x routing.Exchange) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	v, err := e.vhost(vhost)
	if err == nil {
		if _, missing := v.Table.Lookup(x.Name); missing == nil {
			_, err = v.Table.Declare(x) // changes nothing, for it is there
			e.mu.Unlock()
			return err
		}
		if n := v.Remembers(x); x.Type == routing.Deduplication && n > state.MostCached {
			err = fmt.Errorf("%w: the exchanges of vhost %s would remember %d messages, %d at most", ErrInvalid, vhost, n, state.MostCached)
		}
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.wish(ctx, vhost, state.Declaration{Exchange: &x})
}

// Exchange returns an exchange. Errors: *routing.Error, ErrNoVhost.
func (e *Engine) Exchange(vhost, name string) (routing.Exchange, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return routing.Exchange{}, err
	}
	return v.Table.Lookup(name)
}

// DeleteExchange deletes an exchange and its bindings; one that is not there is no error.
// Errors: *routing.Error, ErrNoVhost.
func (e *Engine) DeleteExchange(ctx context.Context, vhost, name string, ifUnused bool) error {
	return e.declares(ctx, vhost, state.Declaration{DeleteExchange: &state.ExchangeDeleted{Name: name, IfUnused: ifUnused}})
}

// Bind adds a binding. Errors: *routing.Error, ErrNoVhost, and those of the hook.
func (e *Engine) Bind(ctx context.Context, vhost string, b routing.Binding) error {
	return e.bind(ctx, vhost, b, true)
}

// BindOnly is Bind for a client that may not read all topics: no durable reader begins on
// account of the binding.
func (e *Engine) BindOnly(ctx context.Context, vhost string, b routing.Binding) error {
	return e.bind(ctx, vhost, b, false)
}

func (e *Engine) bind(ctx context.Context, vhost string, b routing.Binding, reads bool) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	done, err := e.binding(ctx, vhost, &b, reads)
	if err != nil {
		return err
	}
	defer done()
	return e.declares(ctx, vhost, state.Declaration{Bind: &b})
}

// Unbind removes a binding; one that is not there is no error. Errors: *routing.Error,
// ErrNoVhost.
func (e *Engine) Unbind(ctx context.Context, vhost string, b routing.Binding) error {
	return e.declares(ctx, vhost, state.Declaration{Unbind: &b})
}

// declares is wish for a vhost that must be there.
func (e *Engine) declares(ctx context.Context, vhost string, d state.Declaration) error {
	if err := e.open(ctx); err != nil {
		return err
	}
	e.mu.Lock()
	_, err := e.vhost(vhost)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.wish(ctx, vhost, d)
}

// Exchanges returns the exchanges of a vhost, by name.
func (e *Engine) Exchanges(vhost string) ([]routing.Exchange, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return nil, err
	}
	return v.Table.Exchanges(), nil
}

// Bindings returns the bindings of a vhost, as routing.Table.Bindings does.
func (e *Engine) Bindings(vhost string) ([]routing.Binding, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return nil, err
	}
	return v.Table.Bindings(), nil
}
