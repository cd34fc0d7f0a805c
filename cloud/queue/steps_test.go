package queue

import (
	"slices"
	"time"
)

// allQueues are those that clients consume from.
var allQueues = []string{"plain", "single", "prio", "rej", "late", "ttl", "exp", "max", "bytes", "limit", "auto", "own", "once", "uniq", dead}

// session returns whose queue it is.
func session(queue string) string {
	if queue == "own" {
		return "me"
	}
	return ""
}

func (w *world) stepConsume(o *owner) {
	c := &taker{queue: w.pick(allQueues...), windows: []*Window{NewWindow(w.rng.IntN(4))}}
	if w.rng.IntN(3) == 0 {
		c.windows = append(c.windows, o.shared)
	}
	var err error
	c.Consumer, err = o.Consume(ConsumerOptions{
		Vhost: DefaultVhost, Queue: c.queue, Session: session(c.queue), Priority: int32(w.rng.IntN(2)), Exclusive: w.rng.IntN(10) == 0,
		Windows: c.windows, Ready: func() {},
		Cancelled: func() {
			w.answer(func() { o.takers = slices.DeleteFunc(o.takers, func(x *taker) bool { return x == c }) })
		},
	})
	if !w.failed(o, err) {
		o.takers = append(o.takers, c)
	}
}

// stepTake takes what a consumer was given.
func (w *world) stepTake(o *owner) {
	for _, i := range w.rng.Perm(len(o.takers)) {
		c := o.takers[i]
		all := c.Take(nil, 1+w.rng.IntN(3))
		for j := range all {
			m, first := w.deliver(o, c.queue, &all[j])
			o.held = append(o.held, leasedTo{c.queue, all[j], m, c.windows, first})
		}
		if len(all) > 0 {
			return
		}
	}
}

func (w *world) stepClose(o *owner) {
	if len(o.takers) == 0 {
		return
	}
	i := w.rng.IntN(len(o.takers))
	c := o.takers[i]
	if w.rng.IntN(3) == 0 {
		c.windows[0].Resize(w.rng.IntN(5))
		return
	}
	o.takers = slices.Delete(o.takers, i, i+1)
	w.async(func() func() {
		err := c.Close(w.ctx())
		return func() { w.failed(o, err) }
	})
}

func (w *world) stepGet(o *owner) {
	queue := w.pick(allQueues...)
	w.async(func() func() {
		d, _, ok, err := o.Get(w.ctx(), DefaultVhost, queue, session(queue))
		return func() {
			if !w.failed(o, err) && ok {
				m, first := w.deliver(o, queue, &d)
				if age := time.Since(time.UnixMilli(d.Time)); queue == "ttl" && w.fast && age >= ttl {
					w.errorf("%s is got at an age of %v", m.body, age)
				}
				o.held = append(o.held, leasedTo{queue, d, m, nil, first})
			}
		}
	})
}

// stepManage purges, deletes, declares or moves.
func (w *world) stepManage(o *owner) {
	switch w.rng.IntN(9) {
	case 8:
		w.async(func() func() {
			err := o.log.Maintain(w.ctx()) // drops what is not needed
			return func() { w.failed(o, err) }
		})
	case 0:
		w.lost("plain")
		w.async(func() func() {
			_, err := o.Purge(w.ctx(), DefaultVhost, "plain", "")
			return func() { w.failed(o, err) }
		})
	case 1:
		w.lost("plain")
		w.missing = true
		w.async(func() func() {
			_, err := o.DeleteQueue(w.ctx(), DefaultVhost, "plain", "", false, false)
			return func() { w.failed(o, err) }
		})
	case 2:
		w.async(func() func() {
			err := o.EndSession(w.ctx(), DefaultVhost, "me")
			return func() { w.failed(o, err) }
		})
	case 3, 4:
		most := 1 + w.rng.IntN(4) // times that one message can be moved
		for _, m := range w.tracks {
			if dies[m.queue] != "" {
				m.moved += most
			}
		}
		w.moving += most
		w.async(func() func() {
			_, err := o.Move(w.ctx(), Movement{Vhost: DefaultVhost, Queue: dead, Most: most, Back: true})
			return func() {
				w.moving -= most
				w.failed(o, err)
			}
		})
	default:
		name := w.pick("plain", "plain", "auto", "own")
		w.async(func() func() {
			s := plain()
			settings(name, &s)
			_, err := o.DeclareQueue(w.ctx(), DefaultVhost, name, s)
			return func() {
				if !w.failed(o, err) && name == "plain" && o == w.owner() && w.fast {
					w.missing = false
				}
			}
		})
	}
}
