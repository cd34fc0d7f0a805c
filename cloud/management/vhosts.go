package management

import (
	"github.com/weirmq/weir/cloud/queue"
)

// totals are the messages of some queues.
type totals struct{ ready, unsettled int64 }

func (t *totals) add(i *queue.Info) {
	t.ready += i.Ready
	t.unsettled += i.Unsettled
}

func (t *totals) object() object {
	return object{"messages": t.ready + t.unsettled, "messages_ready": t.ready, "messages_unacknowledged": t.unsettled}
}

func (s *Server) vhostObject(v vhost) (object, error) {
	infos, err := v.engine.Queues(v.name)
	if err != nil {
		return nil, err
	}
	var t totals
	for i := range infos {
		t.add(&infos[i])
	}
	o := t.object()
	o["name"], o["tracing"], o["tags"], o["description"] = v.name, false, []string{}, ""
	o["cluster_state"] = object{s.o.Node: "running"}
	o["metadata"] = object{"description": "", "tags": []string{}}
	return o, nil
}

func listVhosts(r *request) (any, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var all []object
	for _, v := range vhosts {
		o, err := r.s.vhostObject(v)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return list(r, all)
}

func getVhost(r *request) (any, error) {
	e, name, err := r.engine()
	if err == errNoVhost {
		err = errNotFound
	}
	if err != nil {
		return nil, err
	}
	return r.s.vhostObject(vhost{name, e})
}

func putVhost(r *request) (any, error) {
	if err := r.mustAdminister(); err != nil {
		return nil, err
	}
	return r.createVhost(r.PathValue("vhost"))
}

// createVhost creates a vhost, unless there is one of that name.
func (r *request) createVhost(name string) (any, error) {
	e, err := r.s.o.Queues(name)
	if err != nil {
		return nil, err
	}
	has, err := e.HasVhost(r.Context(), name)
	if err != nil || has {
		return nil, err
	}
	return created{}, e.CreateVhost(r.Context(), name)
}

// deleteVhost deletes a vhost with all that is in it, and the permissions in it before:
// they must not be left for another vhost of that name.
func deleteVhost(r *request) (any, error) {
	if err := r.mustAdminister(); err != nil {
		return nil, err
	}
	e, name, err := r.engine()
	if err == errNoVhost {
		err = errNotFound
	}
	if err != nil {
		return nil, err
	}
	users, err := r.users()
	if err != nil {
		return nil, err
	}
	if err := users.ClearVhost(r.Context(), name); err != nil {
		return nil, err
	}
	return nil, e.DeleteVhost(r.Context(), name)
}
