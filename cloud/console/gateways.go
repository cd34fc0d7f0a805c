package console

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/storage/weir"
)

// Gateway is one line of GET /v1/gateways. For a gateway that is away, the figures are
// those of its last contact, which after a takeover may lack the last five minutes.
type Gateway struct {
	ID          string    `json:"id"`
	State       string    `json:"state"`
	Joined      time.Time `json:"joined"`
	Expires     time.Time `json:"certificate_expires"`
	Revoked     bool      `json:"revoked"`
	Connected   bool      `json:"connected"`
	Address     string    `json:"address,omitempty"`
	Software    string    `json:"software,omitempty"`
	Since       time.Time `json:"since,omitzero"`        // of the connection
	LastContact time.Time `json:"last_contact,omitzero"` // joining is one
	Known       bool      `json:"known"`                 // the figures below are known; false: it has only joined, or the log does not have them
	Buffered    uint64    `json:"buffered_records"`      // on the gateway, not yet durable here
	Bytes       uint64    `json:"buffered_bytes"`
	AgeMS       uint64    `json:"oldest_ms"`       // age now of the oldest of them
	Lost        uint64    `json:"lost_records"`    // that it has reported in weir.gaps since it joined
	Allow       []string  `json:"allow,omitempty"` // patterns of the topics that it may write to; none: all
	Deny        []string  `json:"deny,omitempty"`  // and of those that it may not
}

// GatewayDetail is the answer to GET /v1/gateways/{id}.
type GatewayDetail struct {
	Gateway
	measure.Figures
	Streams  []StreamStatus `json:"streams,omitempty"`
	Refusals []Refusal      `json:"refusals,omitempty"` // since this node leads, oldest first
}

// StreamStatus is one lane of one buffer of a gateway, as the cloud knows it.
type StreamStatus struct {
	Buffer string       `json:"buffer"`
	Lane   string       `json:"lane"`
	Marks  []StreamMark `json:"marks"`
}

// StreamMark is the last sequence of a stream that is durable in a partition.
type StreamMark struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Last      uint64 `json:"last"`
}

// Refusal is something that was refused to a gateway for good; see fleet.Refusal.
type Refusal struct {
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Topic   string    `json:"topic,omitempty"`
	Reason  string    `json:"reason"`
	Text    string    `json:"text"`
	Times   int       `json:"times"`
	Records uint64    `json:"records,omitempty"`
}

func (c *console) gateways(*http.Request) (any, error) {
	known, err := c.Metrics.Gateways()
	if err != nil {
		return nil, err
	}
	all, now := []Gateway{}, time.Now()
	for _, g := range known {
		all = append(all, describeGateway(g, now))
	}
	return all, nil
}

func describeGateway(g measure.Gateway, now time.Time) Gateway {
	d := Gateway{ID: g.ID, State: g.State(), Joined: g.Joined, Expires: g.Expires, Revoked: g.Revoked,
		Connected: g.Session != nil, Allow: g.Allow, Deny: g.Deny, Lost: g.Contact.Lost,
		Address: g.Contact.Address, Software: g.Contact.Software, Buffered: g.Contact.Records, Bytes: g.Contact.Bytes,
		LastContact: time.UnixMilli(g.Contact.At).UTC(), AgeMS: uint64(g.Age(now).Milliseconds())}
	if g.Session != nil {
		d.Since = g.Session.Since
	}
	d.Known = d.Connected || d.Address != ""
	return d
}

// gateway describes one.
func (c *console) gateway(r *http.Request) (any, error) {
	f, id := c.Fleet(), r.PathValue("id")
	if f == nil {
		return nil, broker.ErrNotOwner
	}
	if _, err := f.Gateway(id); err != nil {
		return nil, err
	}
	all, err := c.Metrics.Gateways()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(g measure.Gateway) bool { return g.ID == id })
	if i < 0 {
		return nil, fleet.ErrUnknownGateway // it was removed meanwhile
	}
	d := GatewayDetail{Gateway: describeGateway(all[i], time.Now())}
	if all[i].Session != nil {
		d.Figures = all[i].Session.Figures
	}
	for _, x := range f.Refusals(id) {
		d.Refusals = append(d.Refusals, Refusal(x))
	}
	d.Streams, err = c.streams(id)
	return d, err
}

// streams lists what the shards of this node have of a gateway's streams.
func (c *console) streams(gateway string) ([]StreamStatus, error) {
	marks, err := c.Broker.MarksHere(gateway)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(marks, func(a, b weir.Mark) int {
		return cmp.Or(a.Buffer.Compare(b.Buffer), cmp.Compare(a.Lane, b.Lane),
			bytes.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
	})
	var all []StreamStatus
	at := make(map[weir.Stream]int)
	for _, m := range marks {
		s := weir.Stream{Gateway: gateway, Buffer: m.Buffer, Lane: m.Lane}
		i, seen := at[s]
		if !seen {
			i = len(all)
			at[s] = i
			all = append(all, StreamStatus{Buffer: m.Buffer.String(), Lane: m.Lane.String()})
		}
		name := m.Topic.String()
		t, err := c.Broker.TopicByID(m.Topic)
		switch {
		case err == nil:
			name = t.Name
		case !errors.Is(err, broker.ErrUnknownTopic): // a deleted topic is shown by its id
			return nil, err
		}
		all[i].Marks = append(all[i].Marks, StreamMark{name, m.Partition, m.Last})
	}
	return all, nil
}
