package kafka

import (
	"errors"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage/record"
)

// A client that writes or reads too fast is told to wait, and is not read from until
// then.
// Others do not notice.
func TestThrottle(t *testing.T) {
	d := secured(t, Options{}, Plain)
	topic := d.newTopic(t, "a", 1, nil)
	for user, l := range map[string]quota.Limits{"ann": {Produce: 1_000, Consume: 500}, "root": {Produce: 1 << 40}} {
		if err := d.own.Quotas.Set(t.Context(), quota.Entity{User: user}, func(to *quota.Limits) { *to = l }, false); err != nil {
			t.Fatal(err)
		}
	}
	produce := func(w *wire) int32 {
		big := batchOf(t, record.None, string(make([]byte, 4_000)))
		return ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, big)).ThrottleMillis
	}
	fetch := func(w *wire) int32 {
		return ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, 0)).ThrottleMillis
	}
	ann, root := d.as(t, "ann"), d.as(t, "root")
	if wait := produce(ann); wait < 2_000 || wait > 4_000 {
		t.Errorf("4 KB at 1 KB/s: %d ms", wait)
	}
	if wait := produce(root); wait != 0 {
		t.Errorf("somebody else waits %d ms", wait)
	}
	if wait := fetch(d.as(t, "ann")); wait < 5_000 {
		t.Errorf("8 KB at 0.5 KB/s: %d ms", wait)
	}
	if wait := fetch(root); wait != 0 {
		t.Errorf("somebody else waits %d ms", wait)
	}
	if wait := produce(d.as(t, "ann")); wait < 3_000 {
		t.Errorf("another connection of the same user: %d ms", wait)
	}
	for c := range d.open() {
		muted := time.Until(time.Unix(0, c.muted.Load())) > time.Second
		if muted != (c.peer != root.nc.LocalAddr().String()) {
			t.Errorf("muted: %v", muted)
		}
	}
}

// open is the set of the connections, as it is now.
func (d *door) open() map[*conn]struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make(map[*conn]struct{})
	for c := range d.conns {
		all[c] = struct{}{}
	}
	return all
}

func TestUnmuted(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	_ = ask[*kmsg.ApiVersionsResponse](w, &kmsg.ApiVersionsRequest{Version: 2})
	for c := range d.open() {
		c.mute(20 * time.Millisecond)
	}
	began := time.Now()
	_ = ask[*kmsg.ApiVersionsResponse](w, &kmsg.ApiVersionsRequest{Version: 2})
	if time.Since(began) < 15*time.Millisecond {
		t.Error("the connection was read from while it was muted")
	}
}

func TestQuotasAsAdmin(t *testing.T) {
	d := open(t, setup{})
	ctx := within30s(t)
	admin := kadm.NewClient(d.client(t))
	set := setter(t, admin)
	for _, err := range []error{
		set(1000, produceQuota, part("user", "ann")), set(2000, consumeQuota, part("user", "ann")),
		set(3000, produceQuota, part("user")), set(4000, produceQuota, part("user", "ann"), part("client-id")),
		set(5000, produceQuota, part("client-id", "c")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for what, err := range map[string]error{
		"what": set(50, "controller_mutation_rate", part("user", "ann")), "zero": set(0, produceQuota, part("user", "ann")),
		"half": set(1.5, produceQuota, part("user", "ann")), "ip": set(1, produceQuota, part("ip", "1.1.1.1")),
		"twice": set(1, produceQuota, part("user", "ann"), part("user", "bob")), "nobody": set(1, produceQuota),
		"empty": set(1, produceQuota, part("user", "")), "default": set(1, produceQuota, part("user", quota.Default)),
	} {
		if kerr.TypedErrorForCode(kerr.InvalidRequest.Code) != err {
			t.Errorf("%s: %v", what, err)
		}
	}
	exact, def, either := kmsg.QuotasMatchTypeExact, kmsg.QuotasMatchTypeDefault, kmsg.QuotasMatchTypeAny
	for _, c := range []struct {
		strict bool
		typ    kmsg.QuotasMatchType
		name   string
		want   int
	}{{false, exact, "ann", 2}, {true, exact, "ann", 1}, {false, def, "", 1}, {false, either, "", 3}, {true, either, "", 2}, {false, exact, "eve", 0}} {
		q := kadm.DescribeClientQuotaComponent{Type: "user", MatchType: c.typ}
		if c.name != "" {
			q.MatchName = &c.name
		}
		got, err := admin.DescribeClientQuotas(ctx, c.strict, []kadm.DescribeClientQuotaComponent{q})
		if err != nil || len(got) != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	all, err := admin.DescribeClientQuotas(ctx, false, nil)
	if err != nil || len(all) != 4 {
		t.Errorf("all: %v, %v", all, err)
	}
	if _, err := admin.DescribeClientQuotas(ctx, false, []kadm.DescribeClientQuotaComponent{{Type: "ip", MatchType: either}}); err == nil {
		t.Error("quotas of addresses are found")
	}
	r, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: []kadm.ClientQuotaEntityComponent{part("user", "ann")},
		Ops: []kadm.AlterClientQuotaOp{{Key: produceQuota, Remove: true}, {Key: consumeQuota, Remove: true}}}})
	if err != nil || r[0].Err != nil || len(d.own.Quotas.Entries()) != 3 {
		t.Errorf("%v, %v: %v", r, err, d.own.Quotas.Entries())
	}
}

// setter sets one limit, and returns what became of it.
func setter(t *testing.T, admin *kadm.Client) func(value float64, key string, parts ...kadm.ClientQuotaEntityComponent) error {
	return func(value float64, key string, parts ...kadm.ClientQuotaEntityComponent) error {
		t.Helper()
		r, err := admin.AlterClientQuotas(t.Context(), []kadm.AlterClientQuotaEntry{{Entity: parts, Ops: []kadm.AlterClientQuotaOp{{Key: key, Value: value}}}})
		if err != nil {
			t.Fatal(err)
		}
		return r[0].Err
	}
}

// part is a part of an entity; without a name, the default.
func part(typ string, name ...string) kadm.ClientQuotaEntityComponent {
	c := kadm.ClientQuotaEntityComponent{Type: typ}
	if len(name) > 0 {
		c.Name = &name[0]
	}
	return c
}

func TestRequestPercentage(t *testing.T) {
	d := open(t, setup{})
	ctx := within30s(t)
	admin := kadm.NewClient(d.client(t))
	set, ann := setter(t, admin), part("user", "ann")
	if err := errors.Join(set(1000, produceQuota, ann), set(12.5, requestQuota, ann)); err != nil {
		t.Fatal(err)
	}
	for _, value := range []float64{0, -1, math.NaN(), math.Inf(1), math.Inf(-1)} {
		if err := set(value, requestQuota, ann); kerr.TypedErrorForCode(kerr.InvalidRequest.Code) != err {
			t.Errorf("%v: %v", value, err)
		}
	}
	is := func(when string, want map[string]float64) {
		t.Helper()
		got := make(map[string]float64)
		found, err := admin.DescribeClientQuotas(ctx, true, []kadm.DescribeClientQuotaComponent{{Type: "user", MatchType: kmsg.QuotasMatchTypeExact, MatchName: kmsg.StringPtr("ann")}})
		for _, of := range found {
			for _, v := range of.Values {
				got[v.Key] = v.Value
			}
		}
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v", when, err, got)
		}
	}
	is("set", map[string]float64{produceQuota: 1000, requestQuota: 12.5})
	r, err := admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: []kadm.ClientQuotaEntityComponent{ann}, Ops: []kadm.AlterClientQuotaOp{{Key: requestQuota, Remove: true}}}})
	if err = errors.Join(err, r[0].Err); err != nil {
		t.Error(err)
	}
	is("removed", map[string]float64{produceQuota: 1000})
}
