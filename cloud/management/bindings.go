package management

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/url"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// propertiesKey is the last element of a binding's path. It differs for different bindings
// of the same two ends.
func propertiesKey(b *routing.Binding) string {
	if len(b.Arguments) == 0 {
		if b.Key == "" {
			return "~"
		}
		return url.QueryEscape(b.Key)
	}
	h := fnv.New64a()
	h.Write(b.Arguments)
	return url.QueryEscape(b.Key) + "~" + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, h.Sum64()))
}

func bindingObject(vhost string, b *routing.Binding) (object, error) {
	arguments, failed := wire.ParseTable(b.Arguments)
	if failed != nil {
		return nil, failed
	}
	kind := "queue"
	if b.ToExchange {
		kind = "exchange"
	}
	return object{"source": b.Source, "vhost": vhost, "destination": b.Destination, "destination_type": kind,
		"routing_key": b.Key, "arguments": arguments, "properties_key": propertiesKey(b)}, nil
}

// bindings returns the bindings of a vhost: those of the default exchange to each queue
// first, which are not stored.
func bindings(v vhost) ([]routing.Binding, error) {
	queues, err := v.engine.Queues(v.name)
	if err != nil {
		return nil, err
	}
	var all []routing.Binding
	for i := range queues {
		all = append(all, routing.Binding{Destination: queues[i].Name, Key: queues[i].Name})
	}
	rest, err := v.engine.Bindings(v.name)
	return append(all, rest...), err
}

// selectBindings lists bindings for which want is true.
func selectBindings(r *request, want func(*routing.Binding) bool) (any, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, v := range vhosts {
		found, err := bindings(v)
		if errors.Is(err, queue.ErrNoVhost) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range found {
			if !want(&found[i]) {
				continue
			}
			o, err := bindingObject(v.name, &found[i])
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		}
	}
	return listAll(r, all)
}

func listBindings(r *request) (any, error) {
	return selectBindings(r, func(*routing.Binding) bool { return true })
}

// queueBindings lists the bindings that lead to a queue.
func queueBindings(r *request) (any, error) {
	if _, _, err := r.lookup(); err != nil {
		return nil, err
	}
	return selectBindings(r, func(b *routing.Binding) bool { return !b.ToExchange && b.Destination == r.PathValue("name") })
}

// sourceBindings lists the bindings of which an exchange is the source.
func sourceBindings(r *request) (any, error) {
	if _, err := getExchange(r); err != nil {
		return nil, err
	}
	return selectBindings(r, func(b *routing.Binding) bool { return b.Source == r.name("name") })
}

// destinationBindings lists the bindings that lead to an exchange.
func destinationBindings(r *request) (any, error) {
	if _, err := getExchange(r); err != nil {
		return nil, err
	}
	return selectBindings(r, func(b *routing.Binding) bool { return b.ToExchange && b.Destination == r.name("name") })
}

// ends returns the two ends of the bindings that the path names.
func (r *request) ends() (routing.Binding, error) {
	b := routing.Binding{Source: r.name("source"), Destination: r.name("destination")}
	switch r.PathValue("kind") {
	case "q":
	case "e":
		b.ToExchange = true
	default:
		return b, errNotFound
	}
	return b, nil
}

func (r *request) between(b *routing.Binding) func(*routing.Binding) bool {
	return func(other *routing.Binding) bool {
		return other.Source == b.Source && other.Destination == b.Destination && other.ToExchange == b.ToExchange
	}
}

func endBindings(r *request) (any, error) {
	b, err := r.ends()
	if err != nil {
		return nil, err
	}
	return selectBindings(r, r.between(&b))
}

// lookupBinding returns the binding that the path names.
func (r *request) lookupBinding() (*queue.Engine, string, *routing.Binding, error) {
	e, name, err := r.engine()
	if err != nil {
		return nil, name, nil, err
	}
	b, err := r.ends()
	if err != nil {
		return nil, name, nil, err
	}
	all, err := bindings(vhost{name, e})
	if err != nil {
		return nil, name, nil, err
	}
	same := r.between(&b)
	for i := range all {
		if same(&all[i]) && propertiesKey(&all[i]) == r.PathValue("key") {
			return e, name, &all[i], nil
		}
	}
	return nil, name, nil, errNotFound
}

func getBinding(r *request) (any, error) {
	_, vhost, b, err := r.lookupBinding()
	if err != nil {
		return nil, err
	}
	return bindingObject(vhost, b)
}

// bindingBody is what declares a binding.
type bindingBody struct {
	Vhost       string     `json:"vhost"` // this and the next three in definitions
	Source      string     `json:"source"`
	Destination string     `json:"destination"`
	Type        string     `json:"destination_type"`
	Key         string     `json:"routing_key"`
	Arguments   wire.Table `json:"arguments"`
}

func postBinding(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	b, err := r.ends()
	if err != nil {
		return nil, err
	}
	body, err := decode[bindingBody](r)
	if err != nil {
		return nil, err
	}
	b.Key = body.Key
	if b, err = r.bind(e, vhost, b, body.Arguments); err != nil {
		return nil, err
	}
	return created{url.PathEscape(shown(b.Destination)) + "/" + url.PathEscape(propertiesKey(&b))}, nil
}

// bind adds a binding, unless it is there.
func (r *request) bind(e *queue.Engine, vhost string, b routing.Binding, arguments wire.Table) (routing.Binding, error) {
	x, err := r.mayBind(e, vhost, &b)
	if err != nil {
		return b, err
	}
	if x.Type == routing.Topic && !r.in(vhost).ReadTopic(b.Source, b.Key) {
		return b, errRefused
	}
	if b, err = declaration.Binding(b, x, arguments); err != nil {
		return b, err
	}
	if !b.ToExchange {
		if _, err := e.Queue(vhost, b.Destination, ""); err != nil {
			return b, declaration.Refusal(err, vhost, b.Destination)
		}
	}
	if b.Source == properties.TopicExchange && !r.in(vhost).ReadTopics(r.host()) {
		return b, declaration.Refusal(e.BindOnly(r.Context(), vhost, b), vhost, b.Destination)
	}
	return b, declaration.Refusal(e.Bind(r.Context(), vhost, b), vhost, b.Destination)
}

// mayBind returns the source of a binding, if the client may change that binding.
func (r *request) mayBind(e *queue.Engine, vhost string, b *routing.Binding) (routing.Exchange, error) {
	if b.Source == "" || b.ToExchange && b.Destination == "" {
		return routing.Exchange{}, declaration.Refusal(&routing.Error{Err: routing.ErrDefault}, vhost, "")
	}
	if rights := r.in(vhost); !rights.Write(b.Destination) || !rights.Read(b.Source) {
		return routing.Exchange{}, errRefused
	}
	x, err := e.Exchange(vhost, b.Source)
	return x, declaration.Refusal(err, vhost, "")
}

func deleteBinding(r *request) (any, error) {
	e, vhost, b, err := r.lookupBinding()
	if err != nil {
		return nil, err
	}
	if _, err := r.mayBind(e, vhost, b); err != nil {
		return nil, err
	}
	return nil, declaration.Refusal(e.Unbind(r.Context(), vhost, *b), vhost, b.Destination)
}
