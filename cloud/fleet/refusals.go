package fleet

import "time"

// Limits of the refusals that are kept, in memory only.
const (
	maxRefusals        = 8     // of a gateway
	maxRefusalGateways = 1_000 // that have some
	maxRefusalText     = 300   // bytes
)

// Refusal is something that the cloud refused to a gateway.
type Refusal struct {
	First, Last time.Time // when it was refused for the first and the last time
	Topic       string    // "" if it was not about a topic
	Reason      string    // a word
	Text        string
	Times       int
	Records     uint64 // in all, at most
}

// Refused stores a refusal, which happened just now, as many times as r.Times says but at
// least once. A repetition of the same one is only counted.
func (f *Fleet) Refused(id string, r Refusal) {
	if _, err := f.Gateway(id); err != nil {
		return
	}
	now := f.o.Now()
	r.First, r.Last, r.Times, r.Text = now, now, max(1, r.Times), trim(r.Text, maxRefusalText)
	f.hearing.Lock()
	defer f.hearing.Unlock()
	w, again := f.watch(id), false
	for i := range w.refusals {
		before := w.refusals[i]
		if before.Topic == r.Topic && before.Reason == r.Reason {
			r.First, r.Times, r.Records = before.First, before.Times+r.Times, before.Records+r.Records
			again = true
			w.refusals = append(w.refusals[:i], w.refusals[i+1:]...)
			break
		}
	}
	if len(w.refusals) == 0 && f.refused >= maxRefusalGateways && !again {
		f.forgetRefusals()
	}
	if len(w.refusals) == 0 && !again {
		f.refused++
	}
	w.refusals = append(w.refusals, r)
	if extra := len(w.refusals) - maxRefusals; extra > 0 {
		w.refusals = w.refusals[extra:]
	}
}

// forgetRefusals makes room: it drops the refusals of the gateway whose newest refusal
// is the oldest. Called with hearing held.
func (f *Fleet) forgetRefusals() {
	var oldest *watched
	for _, w := range f.watched {
		if n := len(w.refusals); n > 0 && (oldest == nil || w.refusals[n-1].Last.Before(oldest.refusals[len(oldest.refusals)-1].Last)) {
			oldest = w
		}
	}
	if oldest != nil {
		oldest.refusals = nil
		f.refused--
	}
}

// Refusals lists the refusals of a gateway that are kept since this node leads, oldest
// first.
func (f *Fleet) Refusals(id string) []Refusal {
	f.hearing.Lock()
	defer f.hearing.Unlock()
	if w := f.watched[id]; w != nil {
		return append([]Refusal(nil), w.refusals...)
	}
	return nil
}
