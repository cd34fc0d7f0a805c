package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// Queue is one line of GET /v1/queues: a work queue.
type Queue struct {
	Vhost     string        `json:"vhost"`
	Name      string        `json:"name"`
	Stream    bool          `json:"stream,omitempty"` // it reads the topic of its name; ready and bytes are that topic's
	Ready     int64         `json:"ready"`            // messages that no consumer has
	Unsettled int64         `json:"unsettled"`        // messages that consumers have
	Consumers int           `json:"consumers"`
	Bytes     int64         `json:"bytes"` // of the bodies of both
	Settings  QueueSettings `json:"settings"`
}

// QueueSettings is what a queue was declared with. A member that is missing has no effect.
type QueueSettings struct {
	Durable       bool    `json:"durable"`
	AutoDelete    bool    `json:"auto_delete"`
	Exclusive     bool    `json:"exclusive"`
	TTL           *int64  `json:"message_ttl_ms,omitempty"`
	Expires       int64   `json:"expires_ms,omitempty"`
	MaxLength     *int64  `json:"max_length,omitempty"`
	MaxBytes      *int64  `json:"max_length_bytes,omitempty"`
	Overflow      string  `json:"overflow,omitempty"`
	DeadLetter    *string `json:"dead_letter_exchange,omitempty"`
	DeadLetterKey *string `json:"dead_letter_routing_key,omitempty"`
	MaxPriority   uint8   `json:"max_priority,omitempty"`
	SingleActive  bool    `json:"single_active_consumer,omitempty"`
	DeliveryLimit *int64  `json:"delivery_limit,omitempty"`
}

// Message is one element of the answer to GET /v1/queues/messages.
type Message struct {
	ID         int64            `json:"id"` // increases with every message of the vhost
	Exchange   string           `json:"exchange"`
	Key        string           `json:"routing_key"`
	Published  time.Time        `json:"published"`
	Deliveries int              `json:"deliveries"` // so far, as far as is known
	Properties *wire.Properties `json:"properties"`
	Body       []byte           `json:"body"`       // base64 in JSON
	Size       int              `json:"body_bytes"` // larger than len(Body) if that was cut
}

// QueueChange is the body of POST /v1/queues/{change}: purge, move or replay.
type QueueChange struct {
	Vhost string `json:"vhost"`
	Queue string `json:"queue"`
	// Most is how many messages are moved or replayed; 0: all that are there at the start.
	Most int `json:"most,omitempty"`
	// Exchange and Key say where to move messages. Without Key they keep their own.
	Exchange string `json:"exchange,omitempty"`
	Key      string `json:"routing_key,omitempty"`
}

// Changed is the answer.
type Changed struct {
	Messages int64 `json:"messages"`
}

// Limits of one answer with messages.
const (
	defaultMessages = 100
	maxMessages     = 1000
	maxBodies       = 4 << 20 // bytes, after which no further message is added
	maxBody         = 64 << 10
)

// engineOf returns the engine of the vhost that a request names.
func (c *console) engineOf(ctx context.Context, vhost string) (*queue.Engine, error) {
	if vhost == "" {
		return nil, fmt.Errorf("%w: vhost is missing", errInput)
	}
	e, err := c.Broker.Queues(vhost)
	if err != nil {
		return nil, err
	}
	_, err = e.OpenVhost(ctx, vhost)
	return e, err
}

// queues lists the queues of the parameter vhost, without it those of all vhosts; with
// name, that queue.
func (c *console) queues(r *http.Request) (any, error) {
	vhost, name := r.URL.Query().Get("vhost"), r.URL.Query().Get("name")
	vhosts := []string{vhost}
	if vhost == "" {
		engines, err := c.Broker.AllQueues()
		if err != nil {
			return nil, err
		}
		vhosts = nil
		for _, e := range engines {
			vhosts = append(vhosts, e.Vhosts()...)
		}
	}
	all := []Queue{}
	for _, v := range vhosts {
		e, err := c.engineOf(r.Context(), v)
		if err != nil {
			return nil, err
		}
		infos, err := e.Queues(v)
		if errors.Is(err, queue.ErrNoVhost) && vhost == "" { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range infos {
			if name == "" || infos[i].Name == name {
				all = append(all, queueOf(&infos[i]))
			}
		}
	}
	if vhost == "" {
		var err error
		if all, err = withOthers(c, r, all, func(a, b Queue) int { return cmp.Or(cmp.Compare(a.Vhost, b.Vhost), cmp.Compare(a.Name, b.Name)) }); err != nil {
			return nil, err
		}
	}
	if name != "" && len(all) == 0 && !c.gathered(r) {
		return nil, fmt.Errorf("%w: %s", queue.ErrNoQueue, name)
	}
	return all, nil
}

func queueOf(i *queue.Info) Queue {
	s := &i.Settings
	q := Queue{Vhost: i.Vhost, Name: i.Name, Stream: s.Stream, Ready: i.Ready, Unsettled: i.Unsettled, Consumers: i.Consumers, Bytes: i.Bytes,
		Settings: QueueSettings{Durable: s.Durable, AutoDelete: s.AutoDelete, Exclusive: s.Owner != "",
			TTL: limit(s.TTL.Milliseconds(), s.TTL >= 0), Expires: s.Expires.Milliseconds(),
			MaxLength: limit(s.MaxLength, s.MaxLength >= 0), MaxBytes: limit(s.MaxBytes, s.MaxBytes >= 0),
			MaxPriority: s.MaxPriority, SingleActive: s.SingleActive, DeliveryLimit: limit(int64(s.DeliveryLimit), s.DeliveryLimit >= 0)}}
	switch s.Overflow {
	case state.RejectPublish:
		q.Settings.Overflow = "reject-publish"
	case state.RejectPublishDLX:
		q.Settings.Overflow = "reject-publish-dlx"
	}
	if d := s.DeadLetter; d != nil {
		q.Settings.DeadLetter = &d.Exchange
		if d.HasKey {
			q.Settings.DeadLetterKey = &d.Key
		}
	}
	return q
}

// limit returns n, nil if it is not set.
func limit(n int64, set bool) *int64 {
	if !set {
		return nil
	}
	return &n
}

// messages shows messages of a queue, and leaves them where they are.
func (c *console) messages(r *http.Request) (any, error) {
	q := r.URL.Query()
	e, err := c.engineOf(r.Context(), q.Get("vhost"))
	if err != nil {
		return nil, err
	}
	from, most := int64(0), int64(defaultMessages)
	for name, into := range map[string]*int64{"from": &from, "limit": &most} {
		if !q.Has(name) {
			continue
		}
		if *into, err = strconv.ParseInt(q.Get(name), 10, 64); err != nil || *into < 0 {
			return nil, fmt.Errorf("%w: %s must be a number that is not negative", errInput, name)
		}
	}
	select {
	case c.reads <- struct{}{}:
		defer func() { <-c.reads }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	found, err := e.Peek(r.Context(), q.Get("vhost"), q.Get("name"), "", from, int(min(most, maxMessages)))
	if err != nil {
		return nil, err
	}
	all, size := []Message{}, 0
	for i := range found {
		d := &found[i]
		properties := new(wire.Properties)
		if len(d.Properties) > 0 {
			if err := properties.Decode(d.Properties); err != nil {
				return nil, fmt.Errorf("properties of message %d: %w", d.ID, err)
			}
		}
		body := d.Body[:min(len(d.Body), maxBody)]
		if size += len(body); size > maxBodies && len(all) > 0 {
			break
		}
		all = append(all, Message{ID: d.ID, Exchange: d.Exchange, Key: d.Key, Published: time.UnixMilli(d.Time).UTC(), Deliveries: d.Count,
			Properties: properties, Body: body, Size: len(d.Body)})
	}
	return all, nil
}

// changeQueue purges a queue, or moves or replays what is in it.
func (c *console) changeQueue(r *http.Request) (any, error) {
	req, err := decode[QueueChange](r)
	if err != nil {
		return nil, err
	}
	e, err := c.engineOf(r.Context(), req.Vhost)
	if err != nil {
		return nil, err
	}
	admin.Note(r, "vhost", req.Vhost, "queue", req.Queue)
	m := queue.Movement{Vhost: req.Vhost, Queue: req.Queue, Exchange: req.Exchange, Key: req.Key}
	switch r.PathValue("change") {
	case "purge":
		n, err := e.Purge(r.Context(), req.Vhost, req.Queue, "")
		return Changed{n}, err
	case "move":
		if req.Exchange == "" && req.Key == "" {
			return nil, fmt.Errorf("%w: exchange or routing_key must say where to move messages; without exchange routing_key is a queue", errInput)
		}
		admin.Note(r, "exchange", req.Exchange, "key", req.Key)
	case "replay":
		m.Back = true
	default:
		return nil, fmt.Errorf("%w: the change to a queue must be purge, move or replay", errInput)
	}
	info, err := e.Queue(req.Vhost, req.Queue, "")
	if err != nil {
		return nil, err
	}
	m.Most = int(min(info.Ready, math.MaxInt32)) // what comes back while it runs is left alone
	if req.Most > 0 {
		m.Most = min(m.Most, req.Most)
	}
	n, err := e.Move(r.Context(), m)
	admin.Note(r, "messages", n)
	if err != nil && n > 0 {
		return nil, fmt.Errorf("%d messages moved, then: %w", n, err)
	}
	return Changed{int64(n)}, err
}

// deleteQueue deletes a queue with what is in it; with the parameter if-empty, only if
// that is nothing, with if-unused, only if it has no consumers.
func (c *console) deleteQueue(r *http.Request) (any, error) {
	q := r.URL.Query()
	vhost, name := q.Get("vhost"), q.Get("name")
	admin.Note(r, "vhost", vhost, "queue", name)
	e, err := c.engineOf(r.Context(), vhost)
	if err != nil {
		return nil, err
	}
	n, err := e.DeleteQueue(r.Context(), vhost, name, "", q.Get("if-unused") == "true", q.Get("if-empty") == "true")
	return Changed{n}, err
}
