package sender

import (
	"fmt"
	"sync"
	"time"
)

// clockTolerance is how far this gateway's clock may differ from the cloud's before a
// line is logged.
const clockTolerance = 5 * time.Minute

// clock is the time by which certificates are judged: the cloud's time once it is
// known, this machine's until then. A gateway without a battery-backed clock starts in
// 1970; one with an empty battery may start at any time. The cloud's time is used for
// certificates only: records are stamped with the machine's.
type clock struct {
	now func() time.Time // this machine's

	mu   sync.Mutex
	told time.Time // the cloud's time; zero: not known yet; guarded by mu
	at   time.Time // when told was set, with a monotonic reading; guarded by mu
}

// tell sets the cloud's time and returns how far this machine's clock is ahead of it;
// negative if it is behind.
func (c *clock) tell(t time.Time) (ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.at = t, time.Now()
	return c.now().Sub(t)
}

// cloud returns the cloud's time as far as it is known. It is never before good, a time
// that is known to have passed.
func (c *clock) cloud(good time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.now()
	if !c.told.IsZero() {
		t = c.told.Add(time.Since(c.at))
	}
	return latest(t, good)
}

// node returns the time at which a node's certificate is judged: the earlier one of
// both clocks. So neither a fast clock of this machine nor that of one node shuts the
// gateway out.
func (c *clock) node(good time.Time) time.Time {
	t := c.cloud(good)
	if now := c.now(); now.Before(t) {
		t = now
	}
	return latest(t, good)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// roundedDuration prints a difference of clocks for people.
func roundedDuration(d time.Duration) string {
	d = d.Abs()
	if days := d.Round(24*time.Hour) / (24 * time.Hour); days >= 2 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Second).String()
}

// heardTime takes the cloud's time from a Welcome or a Pong. It logs once per episode
// that the clocks differ.
func (s *Sender) heardTime(ms int64) {
	if ms <= 0 {
		return // the node does not send its time
	}
	ahead := s.clock.tell(time.UnixMilli(ms))
	s.count.ahead.Set(ahead.Seconds())
	wrong := ahead.Abs() > clockTolerance
	s.mu.Lock()
	before := s.state.ClockAhead
	s.state.ClockAhead = 0
	if wrong {
		s.state.ClockAhead = ahead
	}
	s.mu.Unlock()
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	switch {
	case wrong && before == 0:
		s.log.Warn("this gateway's clock is "+roundedDuration(ahead)+" "+side+" the cloud's: readings carry the wrong time; set the clock (certificates are checked by the cloud's time meanwhile)",
			"clock", s.o.Now().UTC().Format(time.RFC3339), "cloud", time.UnixMilli(ms).UTC().Format(time.RFC3339))
	case !wrong && before != 0:
		s.log.Info("this gateway's clock agrees with the cloud's again")
	}
}
