package console

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
)

func (c *console) topics(r *http.Request) (any, error) {
	topics, err := c.Broker.Topics()
	if err != nil {
		return nil, err
	}
	ranges := c.Records.Ranges(r.Context(), partitionsOf(topics...))
	all := make([]Topic, 0, len(topics))
	for _, t := range topics {
		described, err := c.described(t, ranges[:t.Partitions])
		ranges = ranges[t.Partitions:]
		if errors.Is(err, broker.ErrUnknownTopic) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, described)
	}
	return all, nil
}

// partitionsOf lists the partitions of topics.
func partitionsOf(topics ...broker.Topic) (all []broker.Place) {
	for _, t := range topics {
		for p := range t.Partitions {
			all = append(all, broker.Place{Topic: t.ID, Partition: p})
		}
	}
	return all
}

func (c *console) describe(r *http.Request, t broker.Topic) (Topic, error) {
	return c.described(t, c.Records.Ranges(r.Context(), partitionsOf(t)))
}

// described describes a topic. Of a partition whose node does not answer it says which node
// that is.
func (c *console) described(t broker.Topic, ranges []broker.Range) (Topic, error) {
	d := Topic{Name: t.Name, ID: hex.EncodeToString(t.ID[:]), Created: time.UnixMilli(t.Created).UTC(), Configs: t.Configs}
	for p, x := range ranges {
		if errors.Is(x.Err, broker.ErrNoLeader) {
			l, _ := c.Broker.Leader(t.ID, int32(p))
			d.Partitions = append(d.Partitions, Partition{Leader: l.Name})
			continue
		}
		if x.Err != nil {
			return d, x.Err
		}
		d.Partitions = append(d.Partitions, Partition{Start: x.Start, End: x.End, Bytes: x.Bytes})
		d.Records += x.End - x.Start
		d.Bytes += x.Bytes
	}
	d.Rate = c.Metrics.Meter.Rate(t.ID)
	return d, nil
}

func (c *console) createTopic(r *http.Request) (any, error) {
	req, err := decode[NewTopic](r)
	if err != nil {
		return nil, err
	}
	admin.Note(r, "topic", req.Name)
	if req.Partitions == 0 {
		req.Partitions = -1
	}
	if broker.Reserved(req.Name) {
		return nil, fmt.Errorf("%w: the name %q is reserved for Weir or Kafka", broker.ErrInvalidTopic, req.Name)
	}
	t, err := c.Broker.CreateTopic(r.Context(), req.Name, req.Partitions, req.Configs)
	if err != nil {
		return nil, err
	}
	return c.describe(r, t)
}

func (c *console) deleteTopic(r *http.Request) (any, error) {
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.Broker.DeleteTopic(r.Context(), t.ID)
}

func (c *console) growTopic(r *http.Request) (any, error) {
	n, err := partitions(r)
	if err != nil {
		return nil, err
	}
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if err := c.Broker.GrowTopic(r.Context(), t.ID, n); err != nil {
		return nil, err
	}
	if t, err = c.Broker.TopicByID(t.ID); err != nil {
		return nil, err
	}
	return c.describe(r, t)
}

func (c *console) alterTopic(r *http.Request) (any, error) {
	req, err := decode[TopicConfigs](r)
	if err != nil {
		return nil, err
	}
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	err = c.Broker.AlterTopic(r.Context(), t.ID, func(configs map[string]string) error {
		maps.Copy(configs, req.Configs)
		maps.DeleteFunc(configs, func(_, value string) bool { return value == "" })
		return nil
	})
	if err != nil {
		return nil, err
	}
	if t, err = c.Broker.TopicByID(t.ID); err != nil {
		return nil, err
	}
	return c.describe(r, t)
}

// topic describes one.
func (c *console) topic(r *http.Request) (any, error) {
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return c.describe(r, t)
}
