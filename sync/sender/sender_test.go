package sender_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// bubble runs a test of a rig in its own time.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.close()
		f(t, r)
	})
}

func TestDelivers(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 100 {
			r.put(weir.Live, "sensors", "k", fmt.Sprint(i))
		}
		r.put(weir.Alarm, "alarms", "k", "fire")
		r.start()
		r.mustSettle()
		if got := len(r.log.records()); got != 101 {
			t.Fatalf("%d records", got)
		}
		var live []string
		for _, l := range r.log.records() {
			if l.topic == "sensors" {
				live = append(live, string(l.record.Value))
			}
		}
		for i, v := range live {
			if v != fmt.Sprint(i) {
				t.Fatalf("record %d is %s", i, v)
			}
		}
		if st := r.send.State(); !st.Connected || st.Node != "n1" || st.Cluster != "c1" {
			t.Fatalf("state %+v", st)
		}
	})
}

// A reading on an idle link leaves at once: there is nothing between it and the
// log but the link.
func TestIdleLinkSendsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		synctest.Wait()
		r.put(weir.Live, "sensors", "k", "first")
		synctest.Wait()
		start := time.Now()
		r.put(weir.Live, "sensors", "k", "second")
		synctest.Wait()
		if got := values(r.log.records()); got != "first second" || time.Since(start) != 0 {
			t.Fatalf("%q after %v", got, time.Since(start))
		}
	})
}

func TestBusyLinkGrowsBatches(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.latency = func() time.Duration { return 50 * time.Millisecond }
		r.start()
		for i := range 1000 {
			r.put(weir.Live, "sensors", "k", fmt.Sprint(i))
			time.Sleep(time.Millisecond)
		}
		r.mustSettle()
		if got := len(r.log.records()); got != 1000 {
			t.Fatalf("%d records", got)
		}
		if r.log.appends > 500 {
			t.Fatalf("%d appends for 1000 records", r.log.appends)
		}
	})
}

// The next buffer of a lane begins when the one before is acked, and another
// lane does not wait for it.
func TestBuffersInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.put(weir.Live, "sensors", "k", "old")
		r.disk.open()
		r.put(weir.Live, "sensors", "k", "new")
		r.put(weir.Alarm, "sensors", "k", "alarm")
		blocked := true
		r.log.refuse = func(a uplink.Append, records []record.Record) error {
			if blocked && string(records[0].Value) == "old" {
				return uplink.ErrBusy
			}
			return nil
		}
		r.start()
		time.Sleep(time.Second)
		if got := values(r.log.records()); got != "alarm" {
			t.Fatalf("before: %s", got)
		}
		r.log.mu.Lock()
		blocked = false
		r.log.mu.Unlock()
		r.mustSettle()
		if got := values(r.log.records()); got != "alarm old new" {
			t.Fatalf("after: %s", got)
		}
	})
}

// A refusal for now holds one partition, the others go on.
func TestRefusalForNowHoldsOnePartition(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.create("sensors", 8)
		refusals := 0
		r.log.refuse = func(a uplink.Append, records []record.Record) error {
			if string(records[0].Key) == "slow" && refusals < 5 {
				refusals++
				return uplink.ErrMoved
			}
			return nil
		}
		for i := range 20 {
			r.put(weir.Live, "sensors", "slow", fmt.Sprint("s", i))
			r.put(weir.Live, "sensors", "fast", fmt.Sprint("f", i))
		}
		r.start()
		synctest.Wait()
		if got := values(r.log.records()); strings.Contains(got, "s") || !strings.Contains(got, "f19") {
			t.Fatalf("at once: %s", got)
		}
		r.mustSettle()
		if got := len(r.log.records()); got != 40 {
			t.Fatalf("%d records", got)
		}
	})
}

// One bad record is found among good ones, put into the dead letters and reported; all others are
// delivered.
func TestBadRecordIsBuriedAlone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.create("sensors", 2)
		r.log.refuse = func(a uplink.Append, records []record.Record) error {
			for _, x := range records {
				if string(x.Value) == "bad" {
					return uplink.ErrTooLarge
				}
			}
			return nil
		}
		for i := range 100 {
			v := fmt.Sprint(i)
			if i == 37 {
				v = "bad"
			}
			r.put(weir.Live, "sensors", fmt.Sprint("k", i%5), v)
		}
		r.start()
		r.mustSettle()
		if got := len(r.log.records()); got != 99 {
			t.Fatalf("%d records", got)
		}
		gaps := r.log.gaps()
		if len(gaps) != 1 || gaps[0].Count != 1 || gaps[0].Ranges[0] != [2]uint64{38, 38} || !gaps[0].Exact ||
			gaps[0].Topic != "sensors" || gaps[0].Gateway != gateway || !strings.HasPrefix(gaps[0].Cause, "too-large") {
			t.Fatalf("gaps %+v", gaps)
		}
		if len(r.disk.dead) != 1 {
			t.Fatalf("dead letters %v", r.disk.dead)
		}
	})
}

// A topic that is deleted under way takes its records with it, and nothing else.
func TestDeletedTopic(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.put(weir.Live, "doomed", "k", "d0")
		r.start()
		synctest.Wait()
		r.log.remove("doomed")
		for i := range 50 {
			r.put(weir.Live, "doomed", "k", fmt.Sprint("d", i+1))
			r.put(weir.Live, "sensors", "k", fmt.Sprint("s", i))
		}
		r.mustSettle()
		got := map[string]int{}
		for _, l := range r.log.records() {
			got[l.topic]++
		}
		missing := uint64(0)
		for _, g := range r.log.gaps() {
			missing += g.Count
			if g.Topic != "doomed" || !strings.HasPrefix(g.Cause, "gone") {
				t.Fatalf("gap %+v", g)
			}
		}
		if got["sensors"] != 50 || int(missing) != len(r.disk.dead) || int(missing)+got["doomed"]+got["deleted"] != 51 || missing == 0 {
			t.Fatalf("delivered %v, missing %d, dead letters %d", got, missing, len(r.disk.dead))
		}
	})
}

func TestTopicsThatAreNotAllowed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.deny = func(topic string) error {
			if topic == "secret" {
				return uplink.ErrNotAllowed
			}
			return nil
		}
		for i, topic := range []string{"sensors", "secret", "weir.gaps", "__offsets", "secret", "sensors"} {
			r.put(weir.Live, topic, "k", fmt.Sprint(i))
		}
		r.start()
		r.mustSettle()
		if got := values(r.log.records()); got != "0 5" {
			t.Fatalf("delivered %s", got)
		}
		missing := map[string]uint64{}
		for _, g := range r.log.gaps() {
			missing[g.Topic] += g.Count
		}
		if len(missing) != 3 || missing["secret"] != 2 || missing["weir.gaps"] != 1 || missing["__offsets"] != 1 {
			t.Fatalf("gaps %v", missing)
		}
	})
}

// Gaps of the buffer are reported in their place and not twice.
func TestGapsOfTheBuffer(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 20 {
			r.put(weir.Live, "sensors", "k", fmt.Sprint(i+1))
		}
		r.disk.damage(weir.Live, 5, 9)
		r.disk.damage(weir.Live, 20, 20)
		r.start()
		r.mustSettle()
		if got := values(r.log.records()); got != "1 2 3 4 10 11 12 13 14 15 16 17 18 19" {
			t.Fatalf("delivered %s", got)
		}
		var missing uint64
		for _, g := range r.log.gaps() {
			missing += g.Count
		}
		if missing != 6 {
			t.Fatalf("gaps %+v", r.log.gaps())
		}
	})
}

func TestRecordsThatCannotBePacked(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.node.MaxBatch = 4096
		r.startNode()
		r.opts.Batch = 64 << 10
		for i := range 30 {
			v := make([]byte, 100)
			if i == 10 {
				v = make([]byte, 10_000)
				for j := range v {
					v[j] = byte(j*j>>3 ^ j*7919>>5)
				}
			}
			r.disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: v})
		}
		r.start()
		r.mustSettle()
		if got := len(r.log.records()); got != 29+1-len(r.log.gaps()) {
			t.Fatalf("%d delivered, gaps %+v", got, r.log.gaps())
		}
	})
}

// An old gateway process is superseded by the newer session of the same id.
func TestNewerSessionWins(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		synctest.Wait()
		old := r.link.Gateway
		twin, err := r.dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		st, err := twin.OpenStream(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		wire.WritePreface(st, wire.Preface{Kind: wire.StreamControl})
		wire.Write(st, &wire.Hello{Gateway: gateway})
		if f, err := wire.Read(st, wire.MaxControl); err != nil || f.Type() != wire.TypeWelcome {
			t.Fatalf("twin got %v, %v", f, err)
		}
		<-old.Done()
		twin.Close(wire.CodeNone, "")
	})
}

func TestRedirects(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		synctest.Wait()
		r.put(weir.Live, "sensors", "k", "1")
		synctest.Wait()
		r.recv.Handover("node-2")
		synctest.Wait()
		r.put(weir.Live, "sensors", "k", "2")
		synctest.Wait()
		if st := r.send.State(); !st.Connected || st.Addr != "node-2" {
			t.Fatalf("state %+v", st)
		}
		r.mustSettle()
		if got := values(r.log.records()); got != "1 2" {
			t.Fatalf("delivered %s", got)
		}
	})
}

// Memory does not grow with the backlog: what is read is bounded by window and
// read-ahead.
func TestReadsNoMoreThanItMay(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.opts.Window, r.opts.ReadAhead, r.opts.Batch = 20_000, 10_000, 5_000
		r.log.refuse = func(uplink.Append, []record.Record) error { return uplink.ErrBusy }
		for i := range 5000 {
			r.put(weir.Bulk, "sensors", fmt.Sprint(i), strings.Repeat("x", 100))
		}
		r.start()
		time.Sleep(time.Minute)
		st := r.send.State().Lanes[weir.Bulk]
		if st.Bytes > 35_000 || st.Bytes == 0 || r.disk.reads > 100 {
			t.Fatalf("state %+v after %d reads", st, r.disk.reads)
		}
		r.log.mu.Lock()
		r.log.refuse = nil
		r.log.mu.Unlock()
		r.mustSettle()
	})
}

func TestAsideIsReportedAndNotSent(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, _ := r.disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("old")})
		r.log.buffers[gateway] = map[weir.BufferID]weir.BufferState{id: weir.BufferAside}
		r.disk.open()
		r.put(weir.Live, "sensors", "k", "new")
		r.start()
		synctest.Wait()
		if got := values(r.log.records()); got != "new" {
			t.Fatalf("delivered %s", got)
		}
		if st := r.send.State(); len(st.Aside) != 1 || st.Aside[0] != id {
			t.Fatalf("aside %v", st.Aside)
		}
	})
}

// A buffer that the cloud has retired is deleted, whatever the disk remembers.
func TestRetiredIsDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		id, _ := r.disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("old")})
		r.log.buffers[gateway] = map[weir.BufferID]weir.BufferState{id: weir.BufferRetired}
		r.disk.open()
		r.put(weir.Live, "sensors", "k", "new")
		r.start()
		r.mustSettle()
		if got := values(r.log.records()); got != "new" {
			t.Fatalf("delivered %s", got)
		}
	})
}

// A buffer that is opened while the session lives is offered and drained.
func TestBufferOpenedUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		for i := range 20 {
			if i%5 == 4 {
				r.disk.open()
			}
			r.put(weir.Live, "sensors", "k", fmt.Sprint(i))
			synctest.Wait()
		}
		r.mustSettle()
		if got := values(r.log.records()); got != "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19" {
			t.Fatalf("delivered %s", got)
		}
		if st := r.send.State(); !st.Since.Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Fatalf("the session did not live: %+v", st)
		}
	})
}

// number is the value of a record that is one.
func number(t *testing.T, l landed) int {
	t.Helper()
	v, err := strconv.Atoi(string(l.record.Value))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// inOrder checks that the numbers of each key are in order.
func inOrder(t *testing.T, all []landed) {
	t.Helper()
	newest := map[string]int{}
	for _, l := range all {
		k, v := string(l.record.Key), number(t, l)
		if newest[k] > v {
			t.Errorf("%s: %d after %d", k, v, newest[k])
		}
		newest[k] = max(newest[k], v)
	}
}

// A topic that grows keeps each key in order, and old records in their place.
func TestTopicGrows(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.create("sensors", 1)
		r.start()
		for i := range 10 {
			r.put(weir.Live, "sensors", fmt.Sprint("k", i%5), fmt.Sprint(i))
		}
		synctest.Wait()
		r.log.grow("sensors", 4)
		time.Sleep(6 * time.Minute) // until it is asked for again
		for i := range 10 {
			r.put(weir.Live, "sensors", fmt.Sprint("k", i%5), fmt.Sprint(10+i))
		}
		r.mustSettle()
		partitions := map[int32]int{}
		inOrder(t, r.log.records())
		for _, l := range r.log.records() {
			if v := number(t, l); v < 10 && l.partition != 0 {
				t.Errorf("%d is in partition %d", v, l.partition)
			}
			partitions[l.partition]++
		}
		if len(r.log.records()) != 20 || len(partitions) < 2 {
			t.Errorf("%d records in %v", len(r.log.records()), partitions)
		}
	})
}

// An image of the card that is older than the rows by which its records were sent
// delivers none of them again, in whatever way their topics have grown since.
func TestRowsComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.log.create("sensors", 1)
		r.log.create(weir.GapTopic, 1)
		put := func(from int) {
			for i := from; i < from+10; i++ {
				r.put(weir.Live, "sensors", fmt.Sprint("k", i), fmt.Sprint(i))
			}
		}
		put(0)
		r.disk.damage(weir.Live, 3, 4)
		image := r.disk.image()
		r.start()
		r.mustSettle()
		r.log.grow("sensors", 4)
		r.log.grow(weir.GapTopic, 5)
		time.Sleep(6 * time.Minute) // until it is asked for again
		put(10)
		r.mustSettle()
		was := values(r.log.records())
		r.stop()
		r.disk.restore(image)
		r.start()
		r.mustSettle()
		if got := values(r.log.records()); got != was {
			t.Errorf("delivered %s, then %s", was, got)
		}
		put(20)
		r.mustSettle()
		if got, gaps := len(r.log.records()), r.log.gaps(); got != 8+10+10 || len(gaps) != 1 {
			t.Errorf("%d records in the end, gaps %+v", got, gaps)
		}
	})
}

// A map table that damage took the first row from, before anything was sent by it,
// still has the second: what comes before that one waits for the cloud's answer,
// and what comes after it waits for what comes before.
func TestFirstRowIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		refuse bool
		want   int
	}{"mapped anew": {false, 40}, "refused": {true, 20}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				topic := r.log.create("sensors", 4)
				id, seq := r.disk.put(weir.Live, "sensors", record.Record{Key: []byte("k0"), Value: []byte("0")})
				for i := 1; i < 40; i++ {
					_, seq = r.disk.put(weir.Live, "sensors", record.Record{Key: fmt.Append(nil, "k", i%5), Value: fmt.Append(nil, i)})
				}
				if err := r.disk.AddRow(weir.MapRow{Buffer: id, Name: "sensors", Topic: topic, Lane: weir.Live, Row: weir.Row{Partitions: 4, From: seq - 19}}); err != nil {
					t.Fatal(err)
				}
				if c.refuse {
					r.log.deny = func(topic string) error {
						if topic == "sensors" {
							return uplink.ErrNotAllowed
						}
						return nil
					}
				}
				r.start()
				r.mustSettle()
				inOrder(t, r.log.records())
				missing := 0
				for _, g := range r.log.gaps() {
					missing += int(g.Count)
				}
				if got := len(r.log.records()); got != c.want || got+missing != 40 {
					t.Errorf("%d records, want %d; gaps %+v", got, c.want, r.log.gaps())
				}
			})
		})
	}
}

// A link that gives no sign of life is given up.
func TestSilentLink(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var dials []time.Time
		r.opts.Dial = func(context.Context, string) (sender.Session, error) {
			dials = append(dials, time.Now())
			link := wiretest.New(wiretest.Options{})
			go func() { // a node that says Welcome and nothing more
				st, err := link.Node.AcceptStream(t.Context())
				if err == nil {
					wire.Write(st, &wire.Welcome{})
					wire.Write(st, &wire.Marks{Final: true})
				}
			}()
			return dialled(link), nil
		}
		r.start()
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if len(dials) != 2 || dials[1].Sub(dials[0]) < 15*time.Second {
			t.Fatalf("dialled at %v", dials)
		}
	})
}

// A network that is away is tried for ever.
func TestNoNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.start()
		synctest.Wait()
		r.mu.Lock()
		r.down = true
		r.mu.Unlock()
		r.cut(false)
		r.put(weir.Live, "sensors", "k", "v")
		time.Sleep(2 * time.Hour)
		st := r.send.State()
		if st.Connected || st.Err == nil || time.Since(st.Since) < time.Hour {
			t.Fatalf("state %+v", st)
		}
		r.mu.Lock()
		r.down = false
		r.mu.Unlock()
		start := time.Now()
		r.mustSettle()
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("back after %v", d)
		}
	})
}
