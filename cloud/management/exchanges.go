package management

import (
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// exchangeObject describes an exchange.
func exchangeObject(vhost string, x *routing.Exchange) (object, error) {
	arguments, failed := wire.ParseTable(x.Arguments)
	if failed != nil {
		return nil, failed
	}
	return object{"name": x.Name, "vhost": vhost, "type": x.Type, "durable": x.Durable, "auto_delete": x.AutoDelete, "internal": x.Internal,
		"arguments": arguments, "policy": nil}, nil
}

func (r *request) exchangeObjects() ([]object, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, v := range vhosts {
		exchanges, err := v.engine.Exchanges(v.name)
		if errors.Is(err, queue.ErrNoVhost) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range exchanges {
			o, err := exchangeObject(v.name, &exchanges[i])
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		}
	}
	return all, nil
}

func listExchanges(r *request) (any, error) {
	all, err := r.exchangeObjects()
	if err != nil {
		return nil, err
	}
	return listAll(r, all)
}

func getExchange(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	x, err := e.Exchange(vhost, r.name("name"))
	if errors.Is(err, routing.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	o, err := exchangeObject(vhost, &x)
	if err != nil {
		return nil, err
	}
	o["incoming"], o["outgoing"] = []object{}, []object{}
	return o, nil
}

// exchangeBody is what declares an exchange.
type exchangeBody struct {
	Name       string     `json:"name"`  // in definitions
	Vhost      string     `json:"vhost"` // in definitions
	Type       string     `json:"type"`
	Durable    flag       `json:"durable"`
	AutoDelete flag       `json:"auto_delete"`
	Internal   flag       `json:"internal"`
	Arguments  wire.Table `json:"arguments"`
}

func putExchange(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	body, err := decode[exchangeBody](r)
	if err != nil {
		return nil, err
	}
	body.Vhost, body.Name = vhost, r.name("name")
	return r.declareExchange(e, &body)
}

// declareExchange creates an exchange, unless there is an equivalent one.
func (r *request) declareExchange(e *queue.Engine, body *exchangeBody) (any, error) {
	if body.Type == "" {
		body.Type = routing.Direct
	}
	if body.Name == "" {
		return nil, declaration.Refusal(&routing.Error{Err: routing.ErrDefault}, body.Vhost, "")
	}
	rights := r.in(body.Vhost)
	if !rights.Configure(body.Name) {
		return nil, errRefused
	}
	x, err := declaration.Exchange(body.Vhost, routing.Exchange{Name: body.Name, Type: body.Type,
		Durable: bool(body.Durable), AutoDelete: bool(body.AutoDelete), Internal: bool(body.Internal)}, body.Arguments)
	if err != nil {
		return nil, err
	}
	if x.Alternate != "" && !(rights.Read(x.Name) && rights.Write(x.Alternate)) {
		return nil, errRefused
	}
	_, missing := e.Exchange(body.Vhost, x.Name)
	if err := e.DeclareExchange(r.Context(), body.Vhost, x); err != nil {
		return nil, declaration.Refusal(err, body.Vhost, "")
	}
	if missing != nil {
		return created{}, nil
	}
	return nil, nil
}

func deleteExchange(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	name := r.name("name")
	if name == "" || strings.HasPrefix(name, declaration.Reserved) || !r.in(vhost).Configure(name) {
		return nil, errRefused
	}
	if _, err := e.Exchange(vhost, name); errors.Is(err, routing.ErrNotFound) {
		return nil, errNotFound
	}
	return nil, declaration.Refusal(e.DeleteExchange(r.Context(), vhost, name, r.URL.Query().Get("if-unused") == "true"), vhost, "")
}
