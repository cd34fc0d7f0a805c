package management

// vhostStats returns the figures of a vhost, and how many queues it has.
func (s *Server) vhostStats(v vhost) (stats, int, error) {
	infos, err := v.engine.Queues(v.name)
	if err != nil {
		return stats{}, 0, err
	}
	var f figures
	if f.Counts, err = v.engine.Counts(v.name); err != nil {
		return stats{}, 0, err
	}
	for i := range infos {
		f.ready += infos[i].Ready
		f.unsettled += infos[i].Unsettled
	}
	return s.stats(subject{vhost: v.name}, f), len(infos), nil
}

func (s *Server) vhostObject(v vhost) (object, error) {
	x, _, err := s.vhostStats(v)
	if err != nil {
		return nil, err
	}
	o := x.messages(object{"message_stats": x.object()})
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
	return listAll(r, all)
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
	if r.asked.Part { // the node that has the catalogue has done the rest
		e, name, err := r.engine()
		if err != nil {
			return nil, err
		}
		return nil, e.DeleteVhost(r.Context(), name)
	}
	users, missing := r.users()
	if missing != nil && r.s.several() {
		return nil, missing
	}
	e, name, err := r.engine()
	if node, is := r.elsewhere(err); is {
		return r.deleteVhostFrom(node, users, name)
	}
	if err == errNoVhost {
		err = errNotFound
	}
	if err == nil {
		err = missing
	}
	if err != nil {
		return nil, err
	}
	if err := users.ClearVhost(r.Context(), name); err != nil {
		return nil, err
	}
	return nil, e.DeleteVhost(r.Context(), name)
}
