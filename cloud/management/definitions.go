package management

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// pick returns some members of objects.
func pick(all []object, names ...string) []object {
	cut := make([]object, len(all))
	for i := range all {
		cut[i] = object{}
		for _, name := range names {
			cut[i][name] = all[i][name]
		}
	}
	return cut
}

// exported returns the queues, exchanges and bindings of the vhosts that the path
// selects, without those that exist by themselves.
func (r *request) exported() (object, error) {
	queues, err := r.queueObjects()
	if err != nil {
		return nil, err
	}
	var lasting []object
	for _, q := range queues {
		if q["exclusive"] == false {
			lasting = append(lasting, q)
		}
	}
	exchanges, err := r.exchangeObjects()
	if err != nil {
		return nil, err
	}
	var own []object
	for _, x := range exchanges {
		if name := x["name"].(string); name != "" && !strings.HasPrefix(name, declaration.Reserved) {
			own = append(own, x)
		}
	}
	bound, err := r.storedBindings()
	if err != nil {
		return nil, err
	}
	common := []string{"name", "vhost", "durable", "auto_delete", "arguments"}
	return object{
		"rabbit_version": declaration.Dialect, "rabbitmq_version": declaration.Dialect, "product_name": "Weir", "product_version": r.s.o.Version,
		"queues": pick(lasting, common...), "exchanges": pick(own, append(common, "type", "internal")...),
		"bindings": pick(bound, "source", "vhost", "destination", "destination_type", "routing_key", "arguments"),
		"policies": []object{}, "parameters": []object{}, "global_parameters": []object{},
	}, nil
}

// storedBindings lists the bindings that somebody has made, without those of exclusive
// queues.
func (r *request) storedBindings() ([]object, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, v := range vhosts {
		infos, err := v.engine.Queues(v.name)
		if err != nil {
			return nil, err
		}
		exclusive := make(map[string]bool)
		for _, i := range infos {
			exclusive[i.Name] = i.Settings.Owner != ""
		}
		found, err := v.engine.Bindings(v.name)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if b := &found[i]; b.ToExchange || !exclusive[b.Destination] {
				o, err := bindingObject(v.name, b)
				if err != nil {
					return nil, err
				}
				all = append(all, o)
			}
		}
	}
	return all, nil
}

// exportVhost exports a vhost: names in it are without the vhost.
func exportVhost(r *request) (any, error) {
	all, err := r.exported()
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"queues", "exchanges", "bindings"} {
		for _, o := range all[key].([]object) {
			delete(o, "vhost")
		}
	}
	return all, nil
}

// exportAll exports everything. Of users it has the names only: what the log has of
// passwords proves nothing elsewhere.
func exportAll(r *request) (any, error) {
	if err := r.mustAdminister(); err != nil {
		return nil, err
	}
	users, err := r.users()
	if err != nil && !r.asked.Part {
		return nil, err
	}
	all, err := r.exported()
	if err != nil {
		return nil, err
	}
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	names := []object{}
	for _, v := range vhosts {
		names = append(names, object{"name": v.name})
	}
	all["vhosts"] = names
	if r.asked.Part { // the node that has the catalogue adds the rest
		return all, nil
	}
	more, err := others[map[string]json.RawMessage](r)
	if err != nil {
		return nil, err
	}
	for _, other := range more {
		for _, name := range []string{"vhosts", "queues", "exchanges", "bindings"} {
			var some []object
			if err := json.Unmarshal(other[name], &some); err != nil {
				return nil, err
			}
			all[name] = append(all[name].([]object), some...)
		}
	}
	granted, topics := []object{}, []object{}
	for _, p := range users.VhostPermissions("", "") {
		granted = append(granted, permissionObject(&p))
	}
	for _, p := range users.TopicPermissions("", "", "") {
		topics = append(topics, topicPermissionObject(&p))
	}
	all["users"] = append([]object{}, pick(userObjects(users), "name", "tags", "limits")...)
	all["permissions"], all["topic_permissions"] = granted, topics
	return all, nil
}

// definitions is what an import can have.
type definitions struct {
	Users            []userBody              `json:"users"`
	Vhosts           []vhostBody             `json:"vhosts"`
	Permissions      []permissionBody        `json:"permissions"`
	TopicPermissions []auth.TopicPermissions `json:"topic_permissions"`
	Queues           []queueBody             `json:"queues"`
	Exchanges        []exchangeBody          `json:"exchanges"`
	Bindings         []bindingBody           `json:"bindings"`
	Policies         []json.RawMessage       `json:"policies"`
	Parameters       []json.RawMessage       `json:"parameters"`
}

// vhostBody is a vhost in definitions.
type vhostBody struct {
	Name string `json:"name"`
}

// readDefinitions refuses what would be lost.
func readDefinitions(r *request) (definitions, error) {
	d, err := decode[definitions](r)
	if err == nil && len(d.Policies)+len(d.Parameters) > 0 {
		err = badRequest("there are no policies and parameters here: declare queues with arguments, and import the rest")
	}
	return d, err
}

func importAll(r *request) (any, error) {
	users, err := r.administered()
	if err != nil {
		return nil, err
	}
	d, err := readDefinitions(r)
	if err != nil {
		return nil, err
	}
	for _, v := range d.Vhosts {
		_, err := r.createVhost(v.Name)
		if node, is := r.elsewhere(err); is {
			var a Answered
			if a, err = r.ask(node, http.MethodPut, "/api/vhosts/"+url.PathEscape(v.Name), nil); err == nil {
				err = a.err()
			}
		}
		if err != nil {
			return nil, named(err, "vhost", v.Name)
		}
	}
	for _, u := range d.Users {
		if u.Password == nil { // a name, or a hash that proves nothing here
			continue
		}
		if _, err := r.setPassword(users, u.Name, *u.Password); err != nil {
			return nil, named(err, "user", u.Name)
		}
	}
	for _, p := range d.Permissions {
		if err := r.setPermission(users, &p); err != nil {
			return nil, named(err, "permissions of user", p.User)
		}
	}
	for _, p := range d.TopicPermissions {
		if err := users.SetTopicPermissions(r.Context(), p); err != nil {
			return nil, named(err, "topic permissions of user", p.User)
		}
	}
	if r.s.several() {
		if err := r.importElsewhere(&d); err != nil {
			return nil, err
		}
	}
	return nil, r.declareAll(&d)
}

func importVhost(r *request) (any, error) {
	_, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	d, err := readDefinitions(r)
	if err != nil {
		return nil, err
	}
	for i := range d.Queues {
		d.Queues[i].Vhost = vhost
	}
	for i := range d.Exchanges {
		d.Exchanges[i].Vhost = vhost
	}
	for i := range d.Bindings {
		d.Bindings[i].Vhost = vhost
	}
	return nil, r.declareAll(&d)
}

// declareAll declares queues, exchanges and bindings. What came before an error stays.
func (r *request) declareAll(d *definitions) error {
	for _, q := range d.Queues {
		e, err := r.opened(q.Vhost)
		if err == nil {
			_, err = r.declareQueue(e, &declaration.Queue{Vhost: q.Vhost, Name: q.Name, Durable: bool(q.Durable), AutoDelete: bool(q.AutoDelete), Arguments: q.Arguments})
		}
		if err != nil {
			return named(err, "queue", q.Name)
		}
	}
	for _, x := range d.Exchanges {
		e, err := r.opened(x.Vhost)
		if err == nil {
			_, err = r.declareExchange(e, &x)
		}
		if err != nil {
			return named(err, "exchange", x.Name)
		}
	}
	for _, b := range d.Bindings {
		e, err := r.opened(b.Vhost)
		if err == nil {
			_, err = r.bind(e, b.Vhost, routing.Binding{Source: b.Source, Destination: b.Destination, ToExchange: b.Type == "exchange", Key: b.Key}, b.Arguments)
		}
		if err != nil {
			return named(err, "binding to", b.Destination)
		}
	}
	return nil
}

// named says in an error what it is about.
func named(err error, what, name string) error {
	e := refusalOf(err)
	if e.status >= http.StatusInternalServerError || e.status == http.StatusUnauthorized {
		return err
	}
	return &refusal{status: http.StatusBadRequest, kind: "bad_request", reason: fmt.Sprintf("%s %q: %s", what, name, e.reason)}
}
