package measure

import (
	"context"
	"sync"
	"time"
)

// Loads measures how fast the shards of this node grow.
type Loads struct {
	mu      sync.Mutex // guards samples
	samples []loads    // the oldest first, at most meterSamples
}

// loads is what had been appended to the shards of this node at one time.
type loads struct {
	at     time.Time
	shards map[uint32]Shard // without their Stats
}

// Run measures the shards of a registry until ctx ends.
func (l *Loads) Run(ctx context.Context, r *Registry) {
	ticker := time.NewTicker(meterStep)
	defer ticker.Stop()
	for {
		all, err := ask(r.asks().Shards)
		if err != nil {
			all = nil // this node owns none
		}
		l.sample(all, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (l *Loads) sample(all []Shard, now time.Time) {
	next := loads{now, make(map[uint32]Shard, len(all))}
	for _, s := range all {
		next.shards[s.ID] = Shard{Epoch: s.Epoch, Since: s.Since, Records: s.Records, Bytes: s.Bytes}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples) == meterSamples {
		l.samples = append(l.samples[:0], l.samples[1:]...)
	}
	l.samples = append(l.samples, next)
}

// Rate returns how many records and bytes a second were appended to a shard over the last
// minute, or over the part of it since this node owns the shard.
func (l *Loads) Rate(shard uint32) (records, bytes float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples) == 0 {
		return 0, 0
	}
	last := l.samples[len(l.samples)-1]
	now, owned := last.shards[shard]
	if !owned {
		return 0, 0
	}
	began, from := now.Since, Shard{}
	if first := l.samples[0]; first.shards[shard].Epoch == now.Epoch {
		began, from = first.at, first.shards[shard]
	}
	took := last.at.Sub(began).Seconds()
	if took <= 0 {
		return 0, 0
	}
	return float64(now.Records-from.Records) / took, float64(now.Bytes-from.Bytes) / took
}
