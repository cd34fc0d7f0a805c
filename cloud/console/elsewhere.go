package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
)

// In a cluster of several shards every request goes to the node that has the catalogue, which
// knows all callers. It answers for itself, and asks the nodes that have a vhost or a group,
// or all that have any: they answer what they have, and ask nobody.

// keepBody reads the body of a request that may be for another node, and leaves it to be read.
func (c *console) keepBody(r *http.Request) ([]byte, error) {
	if c.Ask == nil || !c.Broker.Several() || r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// elsewhere returns the node that an error says to ask, if this node may ask others.
func (c *console) elsewhere(err error) (broker.Node, bool) {
	not, is := errors.AsType[*broker.NotOwnerError](err)
	if !is || c.Ask == nil || !c.Broker.Several() || !c.Broker.IsController() || not.Owner.Name == "" || not.Owner.Name == c.Broker.Self().Name {
		return broker.Node{}, false
	}
	return not.Owner, true
}

// pass has another node perform a request, and passes on its answer.
func (c *console) pass(w http.ResponseWriter, r *http.Request, body []byte, node broker.Node) {
	status, answer, err := c.Ask(r, body, node)
	if err != nil {
		admin.Reply(w, http.StatusServiceUnavailable, Error{Error: fmt.Sprintf("node %q has it, and does not answer: %v", node.Name, err)})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // an error means that the client is gone
}

// gathered reports whether the node that has the catalogue asks for what this node has.
func (c *console) gathered(r *http.Request) bool {
	l, known := c.Broker.Controller()
	return c.Broker.Several() && admin.IsForwarded(r) && !c.Broker.IsController() && known && admin.CallerOf(r).Name == nodeName(l.Name)
}

// nodeName is the name under which a node asks others.
func nodeName(node string) string { return "node:" + node }

// withOthers adds to a list what the other nodes have, if this node may ask them.
func withOthers[T any](c *console, r *http.Request, all []T, compare func(a, b T) int) ([]T, error) {
	if c.Ask == nil || !c.Broker.Several() || !c.Broker.IsController() {
		return all, nil
	}
	asked := map[string]bool{c.Broker.Self().Name: true}
	for _, id := range c.Broker.Routed() {
		l, known := c.Broker.OwnerOf(id)
		if !known {
			return nil, fmt.Errorf("%w: nobody serves shard %d for now", broker.ErrNoLeader, id)
		}
		if asked[l.Name] {
			continue
		}
		asked[l.Name] = true
		status, answer, err := c.Ask(r, nil, l.Node)
		var some []T
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, bytes.TrimSpace(answer))
		}
		if err == nil {
			err = json.Unmarshal(answer, &some)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: ask node %q at %s: %w", broker.ErrNoLeader, l.Name, l.Address(cluster.Peer), err)
		}
		all = append(all, some...)
	}
	slices.SortStableFunc(all, compare)
	return all, nil
}
