package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// subscribe is what a consumer says about itself.
func subscribe(topics ...string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics = 1, topics
	return m.AppendTo(nil)
}

// member joins a group of its own, and stays while the test does; the group is
// stable when this returns.
func (d *door) member(t *testing.T, name, typ string, metadata []byte) {
	t.Helper()
	w := d.dial(t)
	join := &kmsg.JoinGroupRequest{Version: 5, Group: name, SessionTimeoutMillis: 30_000, RebalanceTimeoutMillis: 30_000, InstanceID: kmsg.StringPtr("i"), ProtocolType: typ,
		Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: metadata}}}
	j := ask[*kmsg.JoinGroupResponse](w, join)
	expect(t, "join", j.ErrorCode, nil)
	sync := &kmsg.SyncGroupRequest{Version: 3, Group: name, Generation: j.Generation, MemberID: j.MemberID, InstanceID: kmsg.StringPtr("i"),
		GroupAssignment: []kmsg.SyncGroupRequestGroupAssignment{{MemberID: j.MemberID, MemberAssignment: []byte("assigned")}}}
	expect(t, "sync", ask[*kmsg.SyncGroupResponse](w, sync).ErrorCode, nil)
}

// committed stores an offset of 5 in each partition, even if the group has members.
func (d *door) committed(t *testing.T, name string, topic broker.Topic) {
	t.Helper()
	c := group.CommitRequest{Group: name, Generation: -1}
	if g, err := d.own.Groups.Describe(name); err == nil && len(g.Details) > 0 {
		c.Generation, c.Identity = g.Generation, g.Details[0].Identity
	}
	for p := range topic.Partitions {
		c.Offsets = append(c.Offsets, group.Offset{Partition: group.Partition{Topic: topic.ID, Index: p}, Offset: 5})
	}
	if _, err := d.own.Groups.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// offsets counts what a group has committed.
func (d *door) offsets(t *testing.T, name string) int {
	t.Helper()
	all, err := d.own.Groups.Offsets(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestDescribeGroups(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	d.committed(t, "empty", topic)
	d.member(t, "stable", "consumer", subscribe("a"))
	w := d.dial(t)
	for v := int16(0); v <= 6; v++ {
		r := ask[*kmsg.DescribeGroupsResponse](w, &kmsg.DescribeGroupsRequest{Version: v, Groups: []string{"empty", "stable", "dead", ""}, IncludeAuthorizedOperations: true})
		unknown := kerr.GroupIDNotFound
		if v < 6 {
			unknown = nil
		}
		for i, want := range []struct {
			state string
			code  *kerr.Error
		}{{"Empty", nil}, {"Stable", nil}, {"Dead", unknown}, {"", kerr.InvalidGroupID}} {
			g := r.Groups[i]
			if expect(t, g.Group, g.ErrorCode, want.code); g.State != want.state || (g.AuthorizedOperations > 0) != (v >= 3 && want.state != "") {
				t.Errorf("v%d: %+v", v, g)
			}
		}
		g := r.Groups[1]
		if g.ProtocolType != "consumer" || g.Protocol != "range" || len(g.Members) != 1 {
			t.Fatalf("v%d: %+v", v, g)
		}
		if m := g.Members[0]; string(m.ProtocolMetadata) != string(subscribe("a")) || string(m.MemberAssignment) != "assigned" || m.ClientID != "wire" || m.ClientHost == "" || (text(m.InstanceID) == "i") != (v >= 4) {
			t.Errorf("v%d: %+v", v, m)
		}
	}
	// While it rebalances a group has no protocol to tell of.
	join := &kmsg.JoinGroupRequest{Version: 5, Group: "joining", SessionTimeoutMillis: 30_000, RebalanceTimeoutMillis: 30_000, InstanceID: kmsg.StringPtr("i"), ProtocolType: "consumer",
		Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscribe("a")}}}
	expect(t, "join", ask[*kmsg.JoinGroupResponse](w, join).ErrorCode, nil)
	g := ask[*kmsg.DescribeGroupsResponse](w, &kmsg.DescribeGroupsRequest{Version: 6, Groups: []string{"joining"}}).Groups[0]
	if g.State != "CompletingRebalance" || g.Protocol != "" || len(g.Members) != 1 || len(g.Members[0].ProtocolMetadata)+len(g.Members[0].MemberAssignment) != 0 {
		t.Errorf("%+v", g)
	}
}

func TestListGroups(t *testing.T) {
	d := open(t, setup{})
	d.committed(t, "empty", d.newTopic(t, "a", 1, nil))
	d.member(t, "stable", "connect", nil)
	w := d.dial(t)
	for _, c := range []struct {
		states, types []string
		want          string
	}{
		{nil, nil, "empty/Empty/ stable/Stable/connect "}, {[]string{}, []string{}, "empty/Empty/ stable/Stable/connect "},
		{[]string{"Stable"}, nil, "stable/Stable/connect "}, {[]string{"stable", "EMPTY"}, nil, "empty/Empty/ stable/Stable/connect "},
		{[]string{"Dead"}, nil, ""}, {[]string{"nonsense"}, nil, ""},
		{nil, []string{"Classic"}, "empty/Empty/ stable/Stable/connect "}, {nil, []string{"consumer"}, ""}, {[]string{"Empty"}, []string{"classic", "share"}, "empty/Empty/ "},
	} {
		r := ask[*kmsg.ListGroupsResponse](w, &kmsg.ListGroupsRequest{Version: 5, StatesFilter: c.states, TypesFilter: c.types})
		got := ""
		for _, g := range r.Groups {
			if got += g.Group + "/" + g.GroupState + "/" + g.ProtocolType + " "; g.GroupType != "classic" {
				t.Errorf("%+v", g)
			}
		}
		if got != c.want || r.ErrorCode != 0 {
			t.Errorf("%v %v: %q, want %q", c.states, c.types, got, c.want)
		}
	}
}

func TestDeleteGroups(t *testing.T) {
	d := open(t, setup{})
	d.committed(t, "empty", d.newTopic(t, "a", 1, nil))
	d.member(t, "stable", "connect", nil)
	r := ask[*kmsg.DeleteGroupsResponse](d.dial(t), &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"empty", "stable", "dead", "", "empty"}})
	for i, want := range []*kerr.Error{nil, kerr.NonEmptyGroup, kerr.GroupIDNotFound, kerr.InvalidGroupID, kerr.GroupIDNotFound} {
		expect(t, "delete "+r.Groups[i].Group, r.Groups[i].ErrorCode, want)
	}
	if d.offsets(t, "empty") != 0 {
		t.Error("the offsets are still there")
	}
}

func TestOffsetDelete(t *testing.T) {
	d := open(t, setup{})
	a, b := d.newTopic(t, "a", 2, nil), d.newTopic(t, "b", 2, nil)
	d.member(t, "reads-a", "consumer", subscribe("a"))
	d.member(t, "insane", "consumer", []byte{0, 1, 0x7f, 0xff, 0xff, 0xff})
	d.member(t, "connect", "connect", subscribe("a"))
	for _, g := range []string{"empty", "reads-a", "insane", "connect"} {
		d.committed(t, g, a)
		d.committed(t, g, b)
	}
	w := d.dial(t)
	type codes = []*kerr.Error
	used, unknown := kerr.GroupSubscribedToTopic, kerr.UnknownTopicOrPartition
	for _, c := range []struct {
		group string
		want  *kerr.Error
		each  codes // a 0, a 1, a 9, b 1, x 0
		left  int   // of 4
	}{
		{"empty", nil, codes{nil, nil, unknown, nil, unknown}, 1},
		{"empty", nil, codes{nil, nil, unknown, nil, unknown}, 1}, // once more
		{"reads-a", nil, codes{used, used, unknown, nil, unknown}, 3},
		{"insane", nil, codes{used, used, unknown, used, unknown}, 4},
		{"connect", kerr.NonEmptyGroup, nil, 4},
		{"dead", kerr.GroupIDNotFound, nil, 0},
		{"", kerr.InvalidGroupID, nil, 0},
	} {
		q := &kmsg.OffsetDeleteRequest{Group: c.group, Topics: []kmsg.OffsetDeleteRequestTopic{
			{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}, {Partition: 1}, {Partition: 9}}},
			{Topic: "b", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 1}}},
			{Topic: "x", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}}}}
		r := ask[*kmsg.OffsetDeleteResponse](w, q)
		expect(t, c.group, r.ErrorCode, c.want)
		var got []int16
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				got = append(got, p.ErrorCode)
			}
		}
		if len(got) != len(c.each) {
			t.Fatalf("%q: %+v", c.group, r)
		}
		for i := range c.each {
			expect(t, c.group, got[i], c.each[i])
		}
		if c.group != "" && d.offsets(t, c.group) != c.left {
			t.Errorf("%q has %d offsets, want %d", c.group, d.offsets(t, c.group), c.left)
		}
	}
}
