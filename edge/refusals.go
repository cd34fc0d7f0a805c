package edge

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

// refusalQuiet is how long a lane must have had room, and refused nothing, before it
// counts as accepting again.
const refusalQuiet = 10 * time.Second

// refusals notes which lanes refuse messages for lack of room. It logs one line when
// that begins and one when it is over, however many messages and devices are affected.
// It may be used by many goroutines.
type refusals struct {
	space   func(weir.Lane) wal.Space
	log     *slog.Logger
	metrics *metrics.Set
	letters *budget.Episode // refused letters find no room either
	total   atomic.Uint64   // messages

	mu    sync.Mutex // guards what follows
	lanes [weir.Lanes]refusal
	timer *time.Timer // nil: no lane refuses messages
}

// refusal is an episode of one lane; its count is 0 when there is no episode.
type refusal struct {
	began, latest time.Time
	count         int   // of messages
	largest       int64 // bytes of the largest of them
}

func newRefusals(space func(weir.Lane) wal.Space, log *slog.Logger, set *metrics.Set) *refusals {
	r := &refusals{space: space, log: log, metrics: set}
	r.letters = budget.NewEpisode(budget.EpisodeOptions{
		Begin: "refused letters cannot be stored: devices that send messages which are refused for good get the answer of a full disk",
		End:   "refused letters are stored again", Log: log})
	for lane := range weir.Lane(weir.Lanes) {
		for _, cause := range []string{"quota", "disk"} {
			r.counted(lane, cause) // so that the first refusal is seen as a change
		}
		set.NewGauge(fmt.Sprintf(`weir_edge_lane_refusing{lane=%q}`, lane), func() float64 {
			r.mu.Lock()
			defer r.mu.Unlock()
			return float64(min(r.lanes[lane].count, 1))
		})
	}
	return r
}

func (r *refusals) counted(lane weir.Lane, cause string) *metrics.Counter {
	return r.metrics.GetOrCreateCounter(fmt.Sprintf(`weir_edge_refused_messages_total{lane=%q,cause=%q}`, lane, cause))
}

// note counts refused messages of a lane. The largest of them takes largest bytes.
func (r *refusals) note(lane weir.Lane, messages int, largest int64) {
	s := r.space(lane)
	cause, args := "quota", []any{"buffer_bytes", s.Used, "quota_bytes", s.Quota}
	if s.Disk < s.Limit-s.Used {
		cause, args = "disk", []any{"free_bytes", s.Disk + s.Reserve, "reserve_bytes", s.Reserve}
	}
	r.counted(lane, cause).Add(messages)
	r.total.Add(uint64(messages))
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &r.lanes[lane]
	e.latest = time.Now()
	e.largest = max(e.largest, largest)
	if e.count += messages; e.count > messages {
		return
	}
	e.began = e.latest
	text := "messages are refused: the local log has used up --quota; it takes messages again when the cloud has taken some"
	if cause == "disk" {
		text = "messages are refused: the disk has no more free space than --reserve"
	}
	r.log.Warn(text, append([]any{"lane", lane.String(), "reason", cause}, args...)...)
	if r.timer == nil {
		r.timer = time.AfterFunc(refusalQuiet, r.look)
	}
}

// look ends the episodes that are over.
func (r *refusals) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		return
	}
	running := false
	for lane := range weir.Lane(weir.Lanes) {
		e := &r.lanes[lane]
		if e.count == 0 {
			continue
		}
		s := r.space(lane)
		if room := min(s.Disk, s.Limit-s.Used) - wal.FrameOverhead; time.Since(e.latest) < refusalQuiet || room < e.largest {
			running = true
			continue
		}
		r.log.Info("messages are accepted again", "lane", lane.String(), "lasted", time.Since(e.began).Round(time.Second), "refused", e.count)
		*e = refusal{}
	}
	if r.timer = nil; running {
		r.timer = time.AfterFunc(refusalQuiet, r.look)
	}
}

// close stops the timer. Episodes that are running are not logged as ended.
func (r *refusals) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
		r.timer = nil
	}
	return nil
}
