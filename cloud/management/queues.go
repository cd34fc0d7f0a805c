package management

import (
	"errors"
	"strings"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// queueObject describes a queue.
func (s *Server) queueObject(i *queue.Info) (object, error) {
	arguments, failed := wire.ParseTable(i.Settings.Arguments)
	if failed != nil {
		return nil, failed
	}
	kind := "classic"
	if name, ok := arguments.Lookup("x-queue-type").Bytes(); ok {
		kind = string(name)
	}
	x := s.stats(subject{i.Vhost, i.ID}, figures{i.Counts, i.Ready, i.Unsettled})
	return x.messages(object{
		"name": i.Name, "vhost": i.Vhost, "type": kind, "node": s.o.Node, "state": "running",
		"durable": i.Settings.Durable, "auto_delete": i.Settings.AutoDelete, "exclusive": i.Settings.Owner != "", "arguments": arguments,
		"messages_persistent": i.Ready + i.Unsettled, "message_bytes": i.Bytes, "message_bytes_persistent": i.Bytes,
		"consumers": i.Consumers, "policy": nil, "operator_policy": nil, "effective_policy_definition": object{}, "message_stats": x.object(),
	}), nil
}

// queueObjects describes the queues of the vhosts that the client may open.
func (r *request) queueObjects() ([]object, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, v := range vhosts {
		infos, err := v.engine.Queues(v.name)
		if errors.Is(err, queue.ErrNoVhost) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range infos {
			o, err := r.s.queueObject(&infos[i])
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		}
	}
	return all, nil
}

func listQueues(r *request) (any, error) {
	all, err := r.queueObjects()
	if err != nil {
		return nil, err
	}
	return listAll(r, all)
}

// lookup returns the queue that the path names, an exclusive one of another session too.
func (r *request) lookup() (*queue.Engine, *queue.Info, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, nil, err
	}
	all, err := e.Queues(vhost)
	if err != nil {
		return nil, nil, err
	}
	for i := range all {
		if all[i].Name == r.PathValue("name") {
			return e, &all[i], nil
		}
	}
	return nil, nil, errNotFound
}

func getQueue(r *request) (any, error) {
	_, i, err := r.lookup()
	if err != nil {
		return nil, err
	}
	o, err := r.s.queueObject(i)
	if err != nil {
		return nil, err
	}
	details := []object{}
	for _, c := range r.s.consumerObjects(r) {
		if q := c["queue"].(object); q["name"] == i.Name && q["vhost"] == i.Vhost {
			details = append(details, c)
		}
	}
	o["consumer_details"], o["incoming"], o["deliveries"] = details, []object{}, []object{}
	return o, nil
}

// queueBody is what declares a queue.
type queueBody struct {
	Name       string     `json:"name"`  // in definitions
	Vhost      string     `json:"vhost"` // in definitions
	Durable    flag       `json:"durable"`
	AutoDelete flag       `json:"auto_delete"`
	Arguments  wire.Table `json:"arguments"`
}

func putQueue(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	body, err := decode[queueBody](r)
	if err != nil {
		return nil, err
	}
	return r.declareQueue(e, &declaration.Queue{Vhost: vhost, Name: r.PathValue("name"), Durable: bool(body.Durable), AutoDelete: bool(body.AutoDelete), Arguments: body.Arguments})
}

// declareQueue creates a queue, unless there is an equivalent one.
func (r *request) declareQueue(e *queue.Engine, q *declaration.Queue) (any, error) {
	if strings.HasPrefix(q.Name, declaration.Reserved) || !r.in(q.Vhost).Configure(q.Name) {
		return nil, errRefused
	}
	info, err := e.Queue(q.Vhost, q.Name, "")
	if errors.Is(err, queue.ErrNoQueue) {
		settings, failed := q.Settings()
		if failed != nil {
			return nil, failed
		}
		if d := settings.DeadLetter; d != nil && !(r.in(q.Vhost).Read(q.Name) && r.in(q.Vhost).Write(d.Exchange)) {
			return nil, errRefused
		}
		if err := r.mayGiveTopic(e, q, settings.Stream); err != nil {
			return nil, err
		}
		info, err = e.DeclareQueue(r.Context(), q.Vhost, q.Name, settings)
	}
	switch {
	case err != nil:
		return nil, declaration.Refusal(err, q.Vhost, q.Name)
	case info.Created:
		return created{}, nil
	}
	return nil, q.Same(&info)
}

// mayGiveTopic returns an error unless the client may declare a stream queue: that gives
// its topic to the vhost.
func (r *request) mayGiveTopic(e *queue.Engine, q *declaration.Queue, stream bool) error {
	if !stream {
		return nil
	}
	there, err := e.HasTopic(q.Name)
	if err != nil {
		return err
	}
	for _, op := range declaration.GivingTopic(there) {
		if !r.in(q.Vhost).Topic(op, r.host(), q.Name) {
			return errRefused
		}
	}
	return nil
}

func deleteQueue(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if !r.in(vhost).Configure(name) {
		return nil, errRefused
	}
	q := r.URL.Query()
	_, err = e.DeleteQueue(r.Context(), vhost, name, "", q.Get("if-unused") == "true", q.Get("if-empty") == "true")
	if errors.Is(err, queue.ErrNoQueue) {
		return nil, errNotFound
	}
	return nil, declaration.Refusal(err, vhost, name)
}

func purgeQueue(r *request) (any, error) {
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if !r.in(vhost).Read(name) {
		return nil, errRefused
	}
	_, err = e.Purge(r.Context(), vhost, name, "")
	if errors.Is(err, queue.ErrNoQueue) {
		return nil, errNotFound
	}
	return nil, declaration.RefusalOf("queue.purge", err, vhost, name)
}
