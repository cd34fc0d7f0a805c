package audit

import (
	"fmt"
	"testing"
	"time"

	"github.com/weirmq/weir/firmware-sim/device"
)

// scene builds an audit record by record.
type scene struct {
	a      *Auditor
	offset int64
}

func newScene() *scene { return &scene{a: New()} }

func (s *scene) sent(n, sends int, qos byte) *scene {
	s.a.Event(device.Reading{Device: "d", N: n, QoS: qos, Sends: sends, Acked: true}, device.Acked)
	return s
}

func (s *scene) read(n int, seq uint64) *scene {
	s.at(s.offset, n, seq)
	s.offset++
	return s
}

func (s *scene) at(offset int64, n int, seq uint64) *scene {
	source := Source{}
	if seq > 0 {
		source = Source{"b/live", seq}
	}
	now := time.Now()
	s.a.Read(Record{Offset: offset, Source: source, Read: now,
		Value: fmt.Appendf(nil, `{"device":"d","n":%d,"t":%d}`, n, now.Add(-time.Millisecond).UnixMicro())})
	return s
}

func (s *scene) gap(first, last uint64, exact bool) *scene {
	s.a.ReadGap(GapReport{Buffer: "b", Lane: "live", Ranges: [][2]uint64{{first, last}}, Exact: exact})
	return s
}

func (s *scene) gapOf(buffer string, first, last uint64) *scene {
	s.a.ReadGap(GapReport{Buffer: buffer, Lane: "live", Ranges: [][2]uint64{{first, last}}, Exact: true})
	return s
}

func TestReport(t *testing.T) {
	for name, c := range map[string]struct {
		s    *scene
		want Report
	}{
		"all well":              {newScene().sent(1, 1, 1).sent(2, 1, 1).read(1, 10).read(2, 11), Report{Sent: 2, Acked: 2, Received: 2}},
		"lost":                  {newScene().sent(1, 1, 1).sent(2, 1, 1).read(1, 10), Report{Sent: 2, Acked: 2, Received: 1, Lost: 1}},
		"reported":              {newScene().sent(1, 1, 1).sent(2, 1, 1).sent(3, 1, 1).read(1, 10).read(3, 12).gap(11, 11, true), Report{Sent: 3, Acked: 3, Received: 2, Reported: 1}},
		"gap elsewhere":         {newScene().sent(1, 1, 1).sent(2, 1, 1).sent(3, 1, 1).read(1, 10).read(3, 12).gap(13, 13, true), Report{Sent: 3, Acked: 3, Received: 2, Lost: 1}},
		"gap in another log":    {newScene().sent(1, 1, 1).sent(2, 1, 1).sent(3, 1, 1).read(1, 10).read(3, 12).gapOf("c", 11, 11), Report{Sent: 3, Acked: 3, Received: 2, Lost: 1}},
		"at the end of a log":   {newScene().sent(1, 1, 1).sent(2, 1, 1).read(1, 10).gapOf("c", 1, 1), Report{Sent: 2, Acked: 2, Received: 1, Reported: 1}},
		"gap too small":         {newScene().sent(1, 1, 1).sent(2, 1, 1).sent(3, 1, 1).sent(4, 1, 1).read(1, 10).read(4, 14).gap(11, 11, true), Report{Sent: 4, Acked: 4, Received: 2, Reported: 1, Lost: 1}},
		"same source twice":     {newScene().sent(1, 1, 1).read(1, 10).read(1, 10), Report{Sent: 1, Acked: 1, Received: 1, Duplicated: 1}},
		"never sent twice":      {newScene().sent(1, 1, 1).read(1, 10).read(1, 11), Report{Sent: 1, Acked: 1, Received: 1, Duplicated: 1}},
		"sent twice":            {newScene().sent(1, 2, 1).read(1, 10).read(1, 11), Report{Sent: 1, Acked: 1, Received: 1, Resent: 1}},
		"sent twice at QoS 2":   {newScene().sent(1, 2, 2).read(1, 10).read(1, 11), Report{Sent: 1, Acked: 1, Received: 1, Duplicated: 1}},
		"third copy":            {newScene().sent(1, 2, 1).read(1, 10).read(1, 11).read(1, 12), Report{Sent: 1, Acked: 1, Received: 1, Resent: 1, Duplicated: 1}},
		"doubled, no header":    {newScene().sent(1, 1, 1).read(1, 0).read(1, 0), Report{Sent: 1, Acked: 1, Received: 1, Duplicated: 1}},
		"reread":                {newScene().sent(1, 1, 1).at(0, 1, 10).at(0, 1, 10), Report{Sent: 1, Acked: 1, Received: 1, Reread: 1}},
		"disorder":              {newScene().sent(1, 1, 1).sent(2, 1, 1).read(2, 10).read(1, 11), Report{Sent: 2, Acked: 2, Received: 2, Disordered: 1}},
		"late copy is in order": {newScene().sent(1, 2, 1).sent(2, 1, 1).read(1, 10).read(2, 11).read(1, 12), Report{Sent: 2, Acked: 2, Received: 2, Resent: 1}},
	} {
		got := c.s.a.Report()
		got.P50, got.P99 = 0, 0
		if got != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, c.want)
		}
		if clean := c.want.Lost+c.want.Duplicated+c.want.Disordered == 0; got.Clean() != clean {
			t.Errorf("%s: Clean() = %v", name, got.Clean())
		}
	}
}

func TestForeignRecords(t *testing.T) {
	a := New()
	for i, v := range []string{`x`, `{}`, `{"device":"d","n":0}`, `{"device":"d","n":1e30}`, `{"device":"d","n":999999999}`} {
		a.Read(Record{Offset: int64(i), Value: []byte(v)})
	}
	if r := a.Report(); r.Foreign != 5 || r.Received != 0 {
		t.Errorf("%+v", r)
	}
}

func TestParseSource(t *testing.T) {
	if s, err := ParseSource("00ff/1/42"); err != nil || s != (Source{"00ff/1", 42}) {
		t.Errorf("%v %v", s, err)
	}
	for _, v := range []string{"", "42", "/42", "a/1/x", "a/1/-1"} {
		if _, err := ParseSource(v); err == nil {
			t.Errorf("%q was taken", v)
		}
	}
}

// TestGapsAreShared: a reading that two gaps fit must not use up the one that
// another reading needs.
func TestGapsAreShared(t *testing.T) {
	at := func(seq uint64) Source { return Source{"b/live", seq} }
	wide := missing{at(10), at(30)}   // fits both
	narrow := missing{at(10), at(15)} // fits the first only
	gaps := []GapReport{{Buffer: "b", Lane: "live", Ranges: [][2]uint64{{11, 11}, {21, 21}}, Exact: true}}
	for _, all := range [][]missing{{wide, narrow}, {narrow, wide}} {
		if got := newBooks(gaps).settle(all); got != 2 {
			t.Errorf("%d of 2 accounted for, in the order %v", got, all)
		}
	}
	if got := newBooks(gaps).settle([]missing{wide, narrow, narrow}); got != 2 {
		t.Errorf("two gaps account for %d readings", got)
	}
}
