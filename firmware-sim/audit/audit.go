// Package audit compares what a fleet of devices sent with what came out of
// Kafka. Every reading is numbered, so loss, duplicates and disorder are
// counted, not guessed.
package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirmq/weir/firmware-sim/device"
)

// SourceHeader is the record header with the place of a record in the gateway's log:
// buffer/lane/sequence. Gateways that run with --source-header add it.
const SourceHeader = "weir.source"

// Source is the place of a record in a gateway's log.
type Source struct {
	Stream string // buffer/lane; "": unknown
	Seq    uint64
}

// ParseSource parses the header's value.
func ParseSource(v string) (Source, error) {
	i := strings.LastIndexByte(v, '/')
	if i <= 0 {
		return Source{}, fmt.Errorf("source %q is not buffer/lane/sequence", v)
	}
	seq, err := strconv.ParseUint(v[i+1:], 10, 64)
	if err != nil {
		return Source{}, fmt.Errorf("source %q: %w", v, err)
	}
	return Source{v[:i], seq}, nil
}

// Record is a reading as it came out of Kafka.
type Record struct {
	Partition int32
	Offset    int64
	Source    Source
	Read      time.Time
	Value     []byte
}

// GapReport is a record of the topic weir.gaps: readings that a gateway had accepted
// and cannot deliver.
type GapReport struct {
	Gateway string      `json:"gateway"`
	Buffer  string      `json:"buffer"`
	Lane    string      `json:"lane"`
	Ranges  [][2]uint64 `json:"ranges"` // first and last of each run of missing sequences
	Exact   bool        `json:"exact"`  // every sequence in Ranges is missing
}

// Report is the result of an audit.
type Report struct {
	Sent       int     `json:"sent"`       // readings that went out
	Acked      int     `json:"acked"`      // of these, acknowledged
	Received   int     `json:"received"`   // distinct readings that were consumed
	Lost       int     `json:"lost"`       // acknowledged, never read, not reported
	Reported   int     `json:"reported"`   // acknowledged, never read, but in a gap record
	Duplicated int     `json:"duplicated"` // one source sequence at two offsets, or a copy that no device sent
	Resent     int     `json:"resent"`     // copies that the device did send again
	Reread     int     `json:"reread"`     // records read again at the same offset
	Disordered int     `json:"disordered"` // first copies that came after a later one of their device
	Foreign    int     `json:"foreign"`    // records that are not readings of this fleet
	P50        float64 `json:"p50_ms"`     // from the first PUBLISH to the consumer
	P99        float64 `json:"p99_ms"`
}

// Clean reports whether nothing was lost, duplicated or disordered.
func (r Report) Clean() bool { return r.Lost == 0 && r.Duplicated == 0 && r.Disordered == 0 }

// Auditor collects what was sent and what was read. It may be used by many goroutines.
type Auditor struct {
	mu         sync.Mutex
	devices    map[string]*history
	offsets    map[int32]*bitmap
	gaps       []GapReport
	latencies  []time.Duration
	reread     int
	disordered int
	foreign    int
	received   int
	total      int // records of any kind, including rereads
}

// history is what is known of one device. readings[n-1] is number n.
type history struct {
	readings []reading
	highest  int // highest number read so far
}

type reading struct {
	sent, acked bool
	qos         byte
	sends       int
	copies      []Source // where it was read
}

// New returns an empty auditor.
func New() *Auditor {
	return &Auditor{devices: make(map[string]*history), offsets: make(map[int32]*bitmap)}
}

// Event has the signature of a fleet's Event.
func (a *Auditor) Event(r device.Reading, o device.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	entry := a.reading(r.Device, r.N)
	entry.sent, entry.qos = true, r.QoS
	entry.sends = max(entry.sends, r.Sends)
	entry.acked = entry.acked || r.Acked
}

// Ledger adds a line of a ledger.
func (a *Auditor) Ledger(r device.Reading) { a.Event(r, device.Acked) }

func (a *Auditor) reading(id string, n int) *reading {
	h := a.devices[id]
	if h == nil {
		h = &history{}
		a.devices[id] = h
	}
	for len(h.readings) < n {
		h.readings = append(h.readings, reading{})
	}
	return &h.readings[n-1]
}

// maxReading is the highest number that a record may claim. It bounds memory.
const maxReading = 1 << 28

// Read adds a record. The records of a partition must come in the order of their offsets, but
// may come again.
func (a *Auditor) Read(r Record) {
	var body struct {
		Device string `json:"device"`
		N      int    `json:"n"`
		T      int64  `json:"t"` // µs
	}
	err := json.Unmarshal(r.Value, &body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	if a.offsets[r.Partition] == nil {
		a.offsets[r.Partition] = &bitmap{}
	}
	if !a.offsets[r.Partition].set(r.Offset) {
		a.reread++
		return
	}
	if err != nil || body.Device == "" || body.N < 1 || body.N > maxReading {
		a.foreign++
		return
	}
	entry := a.reading(body.Device, body.N)
	entry.copies = append(entry.copies, r.Source)
	if len(entry.copies) > 1 {
		return // Report judges it, when the number of sends is known
	}
	a.received++
	a.latencies = append(a.latencies, r.Read.Sub(time.UnixMicro(body.T)))
	h := a.devices[body.Device]
	if body.N < h.highest {
		a.disordered++
	}
	h.highest = max(h.highest, body.N)
}

// ReadGap adds a record of weir.gaps.
func (a *Auditor) ReadGap(g GapReport) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total++
	a.gaps = append(a.gaps, g)
}

// Missing returns the number of acknowledged readings that have not been read, reported or not.
func (a *Auditor) Missing() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	missing := 0
	for _, h := range a.devices {
		for i := range h.readings {
			if h.readings[i].acked && len(h.readings[i].copies) == 0 {
				missing++
			}
		}
	}
	return missing
}

// Overtaken returns the number of acknowledged readings that have not been read although a later
// one of their device has. Readings of a device keep their order, so these are lost or late; the
// other missing ones may still be on their way.
func (a *Auditor) Overtaken() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, h := range a.devices {
		for i := range h.readings[:h.highest] {
			if h.readings[i].acked && len(h.readings[i].copies) == 0 {
				n++
			}
		}
	}
	return n
}

// Received returns the number of distinct readings read so far.
func (a *Auditor) Received() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.received
}

// Total returns the number of records read so far, including copies and gaps.
func (a *Auditor) Total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total
}

// Latency returns percentiles over the last n first copies.
func (a *Auditor) Latency(n int) (p50, p99 time.Duration) {
	a.mu.Lock()
	recent := slices.Clone(a.latencies[max(0, len(a.latencies)-n):])
	a.mu.Unlock()
	slices.Sort(recent)
	return percentile(recent, 50), percentile(recent, 99)
}

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*p/100]
}

// Report evaluates what has been collected.
func (a *Auditor) Report() Report {
	p50, p99 := a.Latency(maxReading)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := Report{Received: a.received, Reread: a.reread, Disordered: a.disordered, Foreign: a.foreign,
		P50: milliseconds(p50), P99: milliseconds(p99)}
	var gone []missing
	for _, h := range a.devices {
		near := neighbours{h: h}
		for i := range h.readings {
			e := &h.readings[i]
			before, after := near.at(i)
			if e.sent {
				r.Sent++
			}
			if e.acked {
				r.Acked++
			}
			resent, duplicated := judge(e)
			r.Resent += resent
			r.Duplicated += duplicated
			if e.acked && len(e.copies) == 0 {
				gone = append(gone, missing{before, after})
			}
		}
	}
	r.Reported = newBooks(a.gaps).settle(gone)
	r.Lost = len(gone) - r.Reported
	return r
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
}

// judge distinguishes copies that the device caused, by sending again, from copies that were made
// on the way. At QoS 2 a device never causes a copy.
func judge(e *reading) (resent, duplicated int) {
	for i, c := range e.copies {
		switch {
		case i == 0:
		case c.Stream != "" && slices.Contains(e.copies[:i], c):
			duplicated++
		case e.qos == 2 || i >= e.sends:
			duplicated++
		default:
			resent++
		}
	}
	return resent, duplicated
}
