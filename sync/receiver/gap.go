package receiver

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// gapTopic is what a session knows of topic weir.gaps. Any lane may use it.
type gapTopic struct {
	mu sync.Mutex
	id weir.TopicID // guarded by mu; zero: not known
}

// gapRecord is the value of a record of weir.gaps. Its key is the gateway.
type gapRecord struct {
	Gateway string      `json:"gateway"`
	Buffer  string      `json:"buffer"`
	Lane    string      `json:"lane"`
	First   uint64      `json:"first"`
	Last    uint64      `json:"last"`
	Ranges  [][2]uint64 `json:"ranges"` // first and last of each, inclusive
	Count   uint64      `json:"count"`
	Exact   bool        `json:"exact"`
	Topic   string      `json:"topic,omitempty"`
	Cause   string      `json:"cause"`
}

// gap turns a Gap into a record of weir.gaps and hands it to the log like any
// other Append: the stream's mark of that partition tells duplicates.
func (s *session) gap(f *wire.Gap, ln weir.Lane, held reservation, out *outbox) error {
	if f.Lane != ln {
		return fmt.Errorf("gap of lane %s on the stream of lane %s: %w", f.Lane, ln, wire.ErrMalformed)
	}
	o := outcome{
		target: target{f.Buffer, f.Topic, f.Partition},
		round:  f.Round, first: f.First(), last: f.Last(), reserved: held, missing: f.Count,
	}
	if err := s.checkGapTopic(f.Topic); err != nil {
		out.put(o, err)
		return nil
	}
	batch, err := s.gapBatch(f)
	if err != nil {
		return err
	}
	s.submit(uplink.Append{
		Stream: weir.Stream{Gateway: s.gateway, Buffer: f.Buffer, Lane: ln},
		Topic:  f.Topic, Partition: f.Partition, Round: f.Round, Row: f.Row,
		Prev: f.Prev, First: f.First(), Last: f.Last(), Batch: batch, Gap: true, Missing: f.Count,
	}, o, out)
	return nil
}

// checkGapTopic checks that id is that of weir.gaps. Otherwise a Gap could write to any
// topic.
func (s *session) checkGapTopic(id weir.TopicID) error {
	s.gaps.mu.Lock()
	known := s.gaps.id
	s.gaps.mu.Unlock()
	if id == known && known != (weir.TopicID{}) {
		return nil
	}
	now, _, err := s.r.o.Resolve(s.ctx, s.gateway, weir.GapTopic)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", weir.GapTopic, err)
	}
	s.gaps.mu.Lock()
	s.gaps.id = now
	s.gaps.mu.Unlock()
	if id != now {
		return fmt.Errorf("topic %s is not %s: %w", id, weir.GapTopic, uplink.ErrGone)
	}
	return nil
}

func (s *session) gapBatch(f *wire.Gap) (record.Batch, error) {
	g := gapRecord{
		Gateway: s.gateway, Buffer: f.Buffer.String(), Lane: f.Lane.String(),
		First: f.First(), Last: f.Last(), Count: f.Count, Exact: f.Exact, Topic: f.Of, Cause: f.Cause,
	}
	for _, r := range f.Ranges {
		g.Ranges = append(g.Ranges, [2]uint64{r.First, r.Last})
	}
	value, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("encode gap: %w", err)
	}
	b := record.NewBuilder(record.None)
	err = b.Append(&record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(s.gateway), Value: value})
	if err != nil {
		return nil, fmt.Errorf("encode gap: %w", err)
	}
	return b.Build()
}
