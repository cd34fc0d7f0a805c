package queue

import (
	"errors"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
)

// Needed returns which messages of a vhost are needed; nil if the partition is not that
// of a vhost (commitlog.Options.Needed). The log drops others that lie behind the first
// one that is needed, which free does not tell it.
func (e *Engine) Needed(key logstate.Place) *commitlog.Needed {
	e.mu.Lock()
	v := e.state.VhostOf(key.Topic)
	if v == nil || key.Partition != 0 {
		e.mu.Unlock()
		return nil
	}
	n := v.Needed()
	for !n.Step() { // in between, others have their turn
		e.mu.Unlock()
		e.mu.Lock()
	}
	e.mu.Unlock()
	return &commitlog.Needed{Before: n.Before, Count: n.Count, Has: n.Has}
}

// freeAfter is how long the log keeps messages that no queue needs, at least: it is told
// from time to time only.
const freeAfter = 10 * time.Second

// free lets the log delete the messages in front that no queue needs, and drops what was
// read, after a while. The caller holds Engine.mu.
func (h *host) free() {
	if h.freeing != nil || h.gone || h.engine.phase != serving {
		return
	}
	h.freeing = time.AfterFunc(freeAfter, func() { h.engine.tasks.run(h.freeNow) })
}

func (h *host) freeNow() {
	e := h.engine
	h.pages.drop()
	e.mu.Lock()
	h.freeing = nil
	v, err := e.vhost(h.name)
	if err != nil || h.gone {
		e.mu.Unlock()
		return
	}
	floor := v.Floor()
	if highFloor(e.o.Mutations) {
		floor = v.End()
	}
	advanced := floor > h.floor
	e.mu.Unlock()
	if !advanced {
		return
	}
	_, err = e.log.DeleteRecords(e.ctx, h.topic, 0, floor)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		h.floor = floor
		return
	}
	if e.ctx.Err() == nil && !errors.Is(err, commitlog.ErrUnknownTopic) {
		e.o.Log.Warn("messages that no queue needs were not deleted: another try follows", "vhost", h.name, "below", floor, "err", err)
		h.free()
	}
}
