package console

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
)

// groups lists all groups, or describes the one that parameter id names.
func (c *console) groups(r *http.Request) (any, error) {
	if id := r.URL.Query().Get("id"); id != "" {
		g, err := c.describeGroup(r, id)
		return []Group{g}, err
	}
	all, err := c.groupsAll()
	if err != nil {
		return nil, err
	}
	return withOthers(c, r, all, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
}

func (c *console) groupsAll() ([]Group, error) {
	known, err := c.Metrics.Coordination()
	if err != nil {
		return nil, err
	}
	return ListGroups(known), nil
}

// ListGroups lists all groups, with how far each is behind in all topics.
func ListGroups(known broker.Coordination) []Group {
	lags, unknown := make(map[string]int64), make(map[string]int)
	for _, l := range known.Lags {
		lags[l.Group] += int64(l.Records)
		unknown[l.Group] += l.Unknown
	}
	all := make([]Group, 0, len(known.Groups))
	for _, g := range known.Groups {
		all = append(all, Group{ID: g.Group, State: string(g.State), Protocol: g.ProtocolType, Members: g.Members, Lag: lags[g.Group], Unknown: unknown[g.Group]})
	}
	return all
}

func (c *console) deleteGroup(r *http.Request) (any, error) {
	id := named(r, "id")
	if err := c.Records.DeleteGroup(r.Context(), id); err != nil {
		return nil, fmt.Errorf("%w: %q", err, id)
	}
	return struct{}{}, nil
}

func (c *console) group(r *http.Request) (any, error) { return c.describeGroup(r, r.PathValue("id")) }

func (c *console) describeGroup(r *http.Request, id string) (Group, error) {
	groups, err := c.Broker.Groups(id)
	if err != nil {
		return Group{}, err
	}
	d, err := groups.Describe(id)
	if err != nil {
		return Group{}, fmt.Errorf("%w: %q", err, id)
	}
	g := Group{ID: d.Group, State: string(d.State), Protocol: d.ProtocolType, Members: d.Members}
	if g.Details, err = c.members(groups, d); err != nil {
		return g, err
	}
	readers := make(map[string]string)
	for _, m := range g.Details {
		for _, p := range m.Partitions {
			readers[p] = m.ID
		}
	}
	offsets, err := groups.Offsets(d.Group, nil)
	if err != nil {
		return g, err
	}
	places := make([]broker.Place, len(offsets))
	for i, o := range offsets {
		places[i] = broker.Place{Topic: o.Topic, Partition: o.Index}
	}
	ranges := c.Records.RangesNow(r.Context(), places)
	for i, o := range offsets {
		t, err := c.Broker.TopicByID(o.Topic)
		end := ranges[i].End
		if err == nil {
			err = ranges[i].Err
		}
		switch {
		case errors.Is(err, broker.ErrUnknownTopic):
			continue // deleted since
		case errors.Is(err, broker.ErrNoLeader):
			g.Unknown++
			g.Offsets = append(g.Offsets, GroupOffset{t.Name, o.Index, o.Offset, -1, -1, readers[nameOf(t.Name, o.Index)]})
			continue
		case err != nil:
			return g, err
		}
		lag := max(0, end-o.Offset)
		g.Offsets = append(g.Offsets, GroupOffset{t.Name, o.Index, o.Offset, end, lag, readers[nameOf(t.Name, o.Index)]})
		g.Lag += lag
	}
	slices.SortFunc(g.Offsets, func(a, b GroupOffset) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return g, nil
}

// nameOf returns the name of a partition in GroupMember.
func nameOf(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

// members returns the members of a group, with the partitions that they read.
func (c *console) members(groups *group.Coordinator, d group.Description) ([]GroupMember, error) {
	var all []GroupMember
	if d.Type != group.Consumer {
		for _, m := range d.Details {
			all = append(all, GroupMember{m.Member, m.Instance, m.ClientID, m.ClientHost, assigned(m.Assignment)})
		}
		return all, nil
	}
	described, err := groups.DescribeConsumer(d.Group)
	if errors.Is(err, group.ErrUnknownGroup) {
		return nil, nil // the group is of the other type now, or is gone
	}
	if err != nil {
		return nil, err
	}
	for _, m := range described.Details {
		one := GroupMember{ID: m.Member, Instance: m.Instance, Client: m.ClientID, Host: m.ClientHost}
		for _, p := range m.Assigned {
			if t, err := c.Broker.TopicByID(p.Topic); err == nil {
				one.Partitions = append(one.Partitions, nameOf(t.Name, p.Index))
			}
		}
		all = append(all, one)
	}
	return all, nil
}

// assigned lists the partitions of an assignment as Kafka's consumers encode it
// (ConsumerProtocolAssignment): version int16, then topics, each a name and partition
// numbers. It returns nothing for anything else, such as assignments of other
// protocols.
func assigned(p []byte) []string {
	r := reader{p: p}
	r.uint16() // version; later ones add fields at the end
	var all []string
	for topics := r.uint32(); topics > 0 && !r.bad; topics-- {
		name := string(r.take(int(r.uint16())))
		for partitions := r.uint32(); partitions > 0 && !r.bad; partitions-- {
			number := r.uint32()
			if !r.bad {
				all = append(all, nameOf(name, int32(number)))
			}
		}
	}
	if r.bad {
		return nil
	}
	return all
}

// reader takes numbers off the front of bytes; bad is set if there were too few.
type reader struct {
	p   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.p) {
		r.bad = true
		return nil
	}
	p := r.p[:n]
	r.p = r.p[n:]
	return p
}

func (r *reader) uint16() uint16 {
	if p := r.take(2); !r.bad {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if p := r.take(4); !r.bad {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}
