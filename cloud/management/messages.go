package management

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// Bounds of one answer with messages.
const (
	mostMessages = 1000
	mostBytes    = 16 << 20 // of the answer, after which no further message is taken: another node may pass it on
)

// publishBody is the body of a request to publish.
type publishBody struct {
	Key        *string          `json:"routing_key"`
	Payload    *string          `json:"payload"`
	Encoding   *string          `json:"payload_encoding"`
	Properties *wire.Properties `json:"properties"`
}

// publish publishes a message, and says whether it has reached a queue.
func publish(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	body, err := decode[publishBody](r)
	if err != nil {
		return nil, err
	}
	if body.Key == nil || body.Payload == nil || body.Encoding == nil || body.Properties == nil {
		return nil, badRequest("properties, routing_key, payload and payload_encoding are needed")
	}
	p := queue.Publication{Exchange: r.name("name"), Key: *body.Key, Body: []byte(*body.Payload)}
	switch *body.Encoding {
	case "string":
	case "base64":
		if p.Body, err = base64.StdEncoding.DecodeString(*body.Payload); err != nil {
			return nil, badRequest("not_base64")
		}
	default:
		return nil, badRequest("unknown payload_encoding %q", *body.Encoding)
	}
	if err := r.mayPublish(e, vhost, &p); err != nil {
		return nil, err
	}
	if err := declaration.Properties(body.Properties, r.user); err != nil {
		return nil, err
	}
	if p.Properties, err = body.Properties.Append(nil); err != nil {
		return nil, badRequest("%v", err)
	}
	if p.Exchange == properties.TopicExchange {
		if p.Topic, err = r.topicOf(vhost, p.Key); err != nil {
			return nil, err
		}
	}
	outcomes, err := submit(r.Context(), e, vhost, queue.Work{Publications: []queue.Publication{p}})
	if err != nil {
		return nil, err
	}
	if err := outcomes[0]; err != nil && !errors.Is(err, queue.ErrUnroutable) && !errors.Is(err, queue.ErrOverflow) {
		return nil, declaration.Refusal(err, vhost, "")
	}
	return object{"routed": outcomes[0] == nil}, nil
}

// mayPublish returns an error unless the client may publish to the exchange.
func (r *request) mayPublish(e *queue.Engine, vhost string, p *queue.Publication) error {
	x, err := e.Exchange(vhost, p.Exchange)
	if errors.Is(err, routing.ErrNotFound) { // RabbitMQ answers a publish with 400, and this text
		return badRequest("404 NOT_FOUND - no %s", declaration.AnExchange.In(vhost, p.Exchange))
	}
	if err != nil {
		return declaration.Refusal(err, vhost, "")
	}
	rights := r.in(vhost)
	switch {
	case !rights.Write(p.Exchange):
		return errRefused
	case x.Internal:
		return declaration.Refusal(&routing.Error{Err: routing.ErrInternal, Name: p.Exchange}, vhost, "")
	case x.Type == routing.Topic && !rights.WriteTopic(p.Exchange, p.Key):
		return errRefused
	}
	return nil
}

// topicOf returns the topic that gets what is published to amq.topic with a routing key,
// "" if none does or the client may not write to it.
func (r *request) topicOf(vhost, key string) (string, error) {
	rights, host := r.in(vhost), r.host()
	return r.s.o.TopicOf(r.Context(), key, func(op auth.Operation, topic string) bool { return rights.Topic(op, host, topic) })
}

// submit makes work durable.
func submit(ctx context.Context, e *queue.Engine, vhost string, w queue.Work) ([]error, error) {
	type result struct {
		outcomes []error
		err      error
	}
	done := make(chan result, 1)
	e.Submit(vhost, w, func(outcomes []error, err error) { done <- result{outcomes, err} })
	select {
	case r := <-done:
		return r.outcomes, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// getBody is the body of a request for messages.
type getBody struct {
	Count    *count  `json:"count"`
	Mode     *string `json:"ackmode"`
	Encoding *string `json:"encoding"`
	Truncate *count  `json:"truncate"`
}

// verdicts are what becomes of messages that were got.
var verdicts = map[string]queue.Verdict{
	"ack_requeue_true": queue.Release, "reject_requeue_true": queue.Release,
	"ack_requeue_false": queue.Accept, "reject_requeue_false": queue.Reject,
}

// getMessages takes messages off a queue, and puts them back if the client wants that.
func getMessages(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	body, err := decode[getBody](r)
	if err != nil {
		return nil, err
	}
	if body.Count == nil || body.Mode == nil || body.Encoding == nil {
		return nil, badRequest("count, ackmode and encoding are needed")
	}
	verdict, known := verdicts[*body.Mode]
	switch {
	case !known:
		return nil, badRequest("unknown ackmode %q", *body.Mode)
	case *body.Encoding != "auto" && *body.Encoding != "base64":
		return nil, badRequest("unknown encoding %q", *body.Encoding)
	case *body.Count < 0:
		return nil, badRequest("count is negative")
	}
	name := r.PathValue("name")
	if !r.in(vhost).Read(name) {
		return nil, errRefused
	}
	return take(r, e, vhost, name, &body, verdict)
}

// take leases messages, and settles them: it must, even if the client is gone.
func take(r *request, e *queue.Engine, vhost, name string, body *getBody, verdict queue.Verdict) (any, error) {
	all, size := []json.RawMessage{}, 0
	held := queue.Settlement{Verdict: verdict}
	var failed error
	for len(all) < min(int(*body.Count), mostMessages) && size < r.s.most {
		d, left, ok, err := e.Get(r.Context(), vhost, name, "")
		if err != nil || !ok {
			failed = err
			break
		}
		held.Queue, held.IDs = d.Queue, append(held.IDs, d.ID)
		o, err := deliveryObject(&d, left, body)
		if err != nil {
			failed = err
			break
		}
		all, size = append(all, o), size+len(o)
	}
	if failed != nil {
		held.Verdict = queue.Return
	}
	if len(held.IDs) > 0 {
		if _, err := submit(context.WithoutCancel(r.Context()), e, vhost, queue.Work{Settlements: []queue.Settlement{held}}); err != nil {
			return nil, err
		}
	}
	if failed != nil {
		return nil, declaration.RefusalOf("basic.get", failed, vhost, name)
	}
	return all, nil
}

// deliveryObject describes a message, in JSON: what cannot be encoded is not taken.
func deliveryObject(d *queue.Delivery, left int64, body *getBody) (json.RawMessage, error) {
	var properties wire.Properties
	if len(d.Properties) > 0 {
		if err := properties.Decode(d.Properties); err != nil {
			return nil, err
		}
		declaration.Hide(&properties)
	}
	o := object{"payload_bytes": len(d.Body), "redelivered": d.Redelivered(), "exchange": d.Exchange, "routing_key": d.Key,
		"message_count": left, "properties": &properties}
	p := d.Body
	if body.Truncate != nil && *body.Truncate >= 0 {
		p = p[:min(len(p), int(*body.Truncate))]
	}
	if *body.Encoding == "auto" && utf8.Valid(p) {
		o["payload"], o["payload_encoding"] = string(p), "string"
	} else {
		o["payload"], o["payload_encoding"] = base64.StdEncoding.EncodeToString(p), "base64"
	}
	return json.Marshal(o)
}
