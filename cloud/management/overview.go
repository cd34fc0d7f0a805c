package management

import (
	"errors"
	"net/http"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

func exchangeTypes() []object {
	var all []object
	for _, name := range []string{routing.Direct, routing.Fanout, routing.Headers, routing.Topic, routing.ConsistentHash, routing.DelayedMessage, routing.Deduplication} {
		all = append(all, object{"name": name, "description": name + " exchange", "enabled": true})
	}
	return all
}

func overview(r *request) (any, error) {
	vhosts, err := r.vhosts()
	if err != nil {
		return nil, err
	}
	var x stats
	queues, exchanges := 0, 0
	for _, v := range vhosts {
		y, n, err := r.s.vhostStats(v)
		if errors.Is(err, queue.ErrNoVhost) { // deleted meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		x.add(y)
		queues += n
		all, err := v.engine.Exchanges(v.name)
		if err != nil && !errors.Is(err, queue.ErrNoVhost) {
			return nil, err
		}
		exchanges += len(all)
	}
	connections, channels := r.s.connections(r), 0
	for i := range connections {
		channels += len(connections[i].Channels)
	}
	o := object{
		"management_version": declaration.Dialect, "rabbitmq_version": declaration.Dialect, "product_name": "Weir", "product_version": r.s.o.Version,
		"cluster_name": r.s.o.Cluster(), "node": r.s.o.Node, "rates_mode": "basic", "disable_stats": false, "enable_queue_totals": true,
		"exchange_types": exchangeTypes(), "message_stats": x.object(), "queue_totals": x.messages(object{}), "statistics_db_event_queue": 0,
		"object_totals": object{"connections": len(connections), "channels": channels, "consumers": len(r.s.consumerObjects(r)), "queues": queues, "exchanges": exchanges},
		"listeners":     r.s.listenerObjects(), "contexts": []object{},
	}
	more, err := others[object](r)
	if err != nil {
		return nil, err
	}
	for _, other := range more {
		for _, name := range []string{"message_stats", "queue_totals", "object_totals"} {
			sum(o, object{name: other[name]})
		}
		if listeners, ok := other["listeners"].([]any); ok {
			for _, l := range listeners {
				o["listeners"] = append(o["listeners"].([]object), l.(object))
			}
		}
	}
	return o, nil
}

func (s *Server) listenerObjects() []object {
	all := []object{}
	for _, l := range s.o.Listeners() {
		all = append(all, object{"node": s.o.Node, "protocol": l.Protocol, "ip_address": l.Address, "port": l.Port})
	}
	return all
}

func (s *Server) nodeObject() object {
	return object{"name": s.o.Node, "type": "disc", "running": true, "rates_mode": "basic", "mem_alarm": false, "disk_free_alarm": false,
		"partitions": []string{}, "exchange_types": exchangeTypes(), "applications": []object{}, "enabled_plugins": []string{}}
}

func listNodes(r *request) (any, error) { return listAll(r, []object{r.s.nodeObject()}) }

func getNode(r *request) (any, error) {
	if r.PathValue("name") != r.s.o.Node {
		return r.search(errNotFound)
	}
	return r.s.nodeObject(), nil
}

func clusterName(r *request) (any, error) { return object{"name": r.s.o.Cluster()}, nil }

func extensions(*request) (any, error) { return []object{}, nil }

// healthy answers a check of which the answer is always the same: the state is in the
// bucket, and a node that cannot use it answers nothing.
func healthy(r *request) (any, error) {
	if _, err := r.vhosts(); err != nil {
		return nil, err
	}
	return object{"status": "ok"}, nil
}

// notCritical answers whether others would lose something without this node.
func notCritical(*request) (any, error) {
	return object{"status": "ok", "reason": "messages are in the bucket"}, nil
}

// noListener is the answer of a check that has found no listener.
var noListener = &refusal{status: http.StatusServiceUnavailable, kind: "failed", reason: "No active listener", check: true}

// portListener answers whether a port is open.
func portListener(r *request) (any, error) {
	port, err := number(r.PathValue("port"), 0)
	if err != nil {
		return nil, err
	}
	for _, l := range r.s.o.Listeners() {
		if l.Port == port {
			return object{"status": "ok", "port": port}, nil
		}
	}
	return nil, noListener
}

// protocolListener answers whether clients of a protocol can connect.
func protocolListener(r *request) (any, error) {
	for _, l := range r.s.o.Listeners() {
		if l.Protocol == r.PathValue("protocol") {
			return object{"status": "ok", "protocol": l.Protocol}, nil
		}
	}
	return nil, noListener
}

// aliveness declares a queue, publishes a message to it and takes it off.
func aliveness(r *request) (any, error) {
	const name = "aliveness-test"
	e, vhost, err := r.engine()
	if err != nil {
		return nil, err
	}
	if _, err := r.declareQueue(e, &declaration.Queue{Vhost: vhost, Name: name}); err != nil {
		return nil, err
	}
	p := queue.Publication{Key: name, Body: []byte("test_message")}
	if err := r.mayPublish(e, vhost, &p); err != nil {
		return nil, err
	}
	if !r.in(vhost).Read(name) {
		return nil, errRefused
	}
	outcomes, err := submit(r.Context(), e, vhost, queue.Work{Publications: []queue.Publication{p}})
	if err == nil {
		err = outcomes[0]
	}
	if err != nil {
		return nil, err
	}
	d, _, ok, err := e.Get(r.Context(), vhost, name, "")
	if err != nil || !ok {
		return object{"status": "failed"}, err
	}
	if _, err := submit(r.Context(), e, vhost, queue.Work{Settlements: []queue.Settlement{{Queue: d.Queue, IDs: []int64{d.ID}, Verdict: queue.Accept}}}); err != nil {
		return nil, err
	}
	return object{"status": "ok"}, nil
}
