package edge

import (
	"time"

	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

// freeUnit is the unit in which the free space of the disk is reported: a value that
// changes all the time would be sent all the time.
const freeUnit = 64 << 20

// figures returns what the cloud is told of this gateway besides its backlog, in
// ascending order of keys.
func (e *Edge) figures() []wire.Figure {
	s := e.log.Stats()
	all := []wire.Figure{
		{Key: wire.FigureStarted, Value: uint64(e.started.UnixMilli())},
		{Key: wire.FigureRefused, Value: e.refusals.total.Load()},
		{Key: wire.FigureDead, Value: s.DeadRecords},
		{Key: wire.FigureQuota, Value: uint64(s.Quota)},
	}
	if s.Free >= 0 {
		all = append(all, wire.Figure{Key: wire.FigureFree, Value: uint64(s.Free / freeUnit * freeUnit)})
	}
	all = append(all, wire.Figure{Key: wire.FigureBuffers, Value: uint64(s.Buffers)})
	for lane := range weir.Lane(weir.Lanes) {
		l := s.Lanes[lane]
		all = append(all, wire.Figure{Key: wire.FigureRecords(lane), Value: l.Records})
		if !l.OldestTime.IsZero() {
			all = append(all, wire.Figure{Key: wire.FigureOldest(lane), Value: uint64(max(0, l.OldestTime.UnixMilli()))})
		}
	}
	return all
}

// depth returns what the cloud is told about the backlog.
func (e *Edge) depth() wire.Ping {
	s := e.log.Stats()
	p := wire.Ping{Records: s.Records, Bytes: uint64(s.Bytes)}
	if !s.OldestTime.IsZero() {
		p.Age = uint64(max(0, time.Since(s.OldestTime)) / time.Millisecond)
	}
	return p
}
