package management

import (
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// rateWindow is how far back a rate looks at least, if somebody asked then.
const rateWindow = 5 * time.Second

// rateMemory is how long figures are kept for which nobody asks.
const rateMemory = 10 * time.Minute

// subject is what has rates: a queue, or with queue 0 a vhost.
type subject struct {
	vhost string
	queue state.QueueID
}

// figures are counts of a moment, and how many messages wait then.
type figures struct {
	queue.Counts
	ready, unsettled int64
}

// below reports whether one of the counts is lower than it was.
func (f *figures) below(was *queue.Counts) bool {
	return f.Published < was.Published || f.Delivered < was.Delivered || f.NoAck < was.NoAck || f.Got < was.Got ||
		f.Redelivered < was.Redelivered || f.Accepted < was.Accepted
}

// moment is figures and when they were so.
type moment struct {
	at time.Time
	figures
}

// rates knows what the figures were when somebody asked before. Nobody samples them: a
// rate is the mean since the request before, or since a few seconds if they are frequent.
type rates struct {
	mu    sync.Mutex
	known map[subject]*[2]moment // the earlier one may be zero
	swept time.Time
}

// since returns the moment that the figures of a subject are to be compared with, which is
// now if there is none.
func (r *rates) since(of subject, now moment) moment {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now.at)
	k := r.known[of]
	if k == nil || now.below(&k[1].Counts) { // of an earlier owner
		r.known[of] = &[2]moment{1: now}
		return now
	}
	if now.at.Sub(k[1].at) >= rateWindow {
		k[0], k[1] = k[1], now
	}
	if k[0].at.IsZero() {
		return k[1]
	}
	return k[0]
}

// sweep forgets what nobody asks for. The caller holds mu.
func (r *rates) sweep(now time.Time) {
	if r.known == nil {
		r.known = make(map[subject]*[2]moment)
	}
	if now.Sub(r.swept) < rateMemory {
		return
	}
	r.swept = now
	for of, k := range r.known {
		if now.Sub(k[1].at) >= rateMemory {
			delete(r.known, of)
		}
	}
}

// stats are the figures of a queue, a vhost or of several, and how fast they change.
type stats struct {
	figures
	perSecond map[string]float64
}

// stats returns the figures with their rates.
func (s *Server) stats(of subject, f figures) stats {
	now := moment{s.o.Now(), f}
	before := s.rates.since(of, now)
	x := stats{figures: f, perSecond: make(map[string]float64)}
	seconds := now.at.Sub(before.at).Seconds()
	if seconds <= 0 {
		return x
	}
	earlier := before.values()
	for name, n := range f.values() {
		x.perSecond[name] = float64(n-earlier[name]) / seconds
	}
	return x
}

// values are the figures under RabbitMQ's names.
func (f *figures) values() map[string]int64 {
	return map[string]int64{
		"publish": f.Published, "deliver": f.Delivered, "deliver_no_ack": f.NoAck, "get": f.Got, "redeliver": f.Redelivered, "ack": f.Accepted,
		"deliver_get": f.Delivered + f.NoAck + f.Got,
		"messages":    f.ready + f.unsettled, "messages_ready": f.ready, "messages_unacknowledged": f.unsettled,
	}
}

// add adds the figures and the rates of others.
func (x *stats) add(y stats) {
	x.Published += y.Published
	x.Delivered += y.Delivered
	x.NoAck += y.NoAck
	x.Got += y.Got
	x.Redelivered += y.Redelivered
	x.Accepted += y.Accepted
	x.ready += y.ready
	x.unsettled += y.unsettled
	if x.perSecond == nil {
		x.perSecond = make(map[string]float64)
	}
	for name, rate := range y.perSecond {
		x.perSecond[name] += rate
	}
}

// messages writes how many messages wait into o.
func (x *stats) messages(o object) object {
	all := x.values()
	for _, name := range []string{"messages", "messages_ready", "messages_unacknowledged"} {
		o[name], o[name+"_details"] = all[name], object{"rate": x.perSecond[name]}
	}
	return o
}

// object is the member message_stats.
func (x *stats) object() object {
	all := x.values()
	o := object{}
	for _, name := range []string{"publish", "deliver", "deliver_no_ack", "get", "redeliver", "ack", "deliver_get"} {
		o[name], o[name+"_details"] = all[name], object{"rate": x.perSecond[name]}
	}
	return o
}
