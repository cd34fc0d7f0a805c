package page

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/weirmq/weir/cloud/console"
)

// maxRows is how many rows a table has at most, topRows how many one of the overview.
const (
	maxRows = 500
	topRows = 6
)

// rows are the rows of a table that match a search.
type rows[T any] struct {
	Search string
	All    []T // at most maxRows
	Found  int // how many match
	Of     int // how many there are
}

// search keeps the rows whose name contains the parameter q of the request.
func search[T any](r *http.Request, all []T, name func(T) string) rows[T] {
	out := rows[T]{Search: r.URL.Query().Get("q"), Of: len(all)}
	if text := strings.ToLower(out.Search); text != "" {
		all = slices.DeleteFunc(all, func(v T) bool { return !strings.Contains(strings.ToLower(name(v)), text) })
	}
	out.Found = len(all)
	out.All = first(all, maxRows)
	return out
}

func first[T any](all []T, n int) []T { return all[:min(n, len(all))] }

// overview is the front page.
type overview struct {
	Status   console.Status
	Topics   []console.Topic   // the busiest ones
	Gateways []console.Gateway // those that need attention
	Lagging  []console.Group   // the furthest behind
	Errors   console.Lines
}

func (p *pages) overview(r *http.Request) (any, error) {
	var o overview
	for path, v := range map[string]any{"/v1/status": &o.Status, "/v1/topics": &o.Topics, "/v1/gateways": &o.Gateways, "/v1/errors": &o.Errors} {
		if err := p.get(r, path, v); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(o.Topics, func(a, b console.Topic) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Records, a.Records))
	})
	o.Topics = first(o.Topics, topRows)
	sortGateways(o.Gateways)
	o.Gateways = first(o.Gateways, topRows)
	o.Lagging = o.Status.Lagging
	slices.SortStableFunc(o.Lagging, func(a, b console.Group) int { return cmp.Compare(b.Lag, a.Lag) })
	o.Lagging = first(o.Lagging, topRows)
	o.Errors.Lines = first(o.Errors.Lines, topRows)
	return o, nil
}

// sortGateways sorts those first that need attention: those that are away, then those
// with the largest backlog, then those that lost records.
func sortGateways(all []console.Gateway) {
	rank := func(g console.Gateway) int {
		switch {
		case g.Revoked:
			return 2
		case g.Connected:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b console.Gateway) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Buffered, a.Buffered), cmp.Compare(b.Lost, a.Lost), cmp.Compare(a.ID, b.ID))
	})
}

func (p *pages) topics(r *http.Request) (any, error) {
	var all []console.Topic
	if err := p.get(r, "/v1/topics", &all); err != nil {
		return nil, err
	}
	return search(r, all, func(t console.Topic) string { return t.Name }), nil
}

// topicView is a topic and its settings in order.
type topicView struct {
	console.Topic
	Settings []setting
}

type setting struct{ Name, Value string }

func (p *pages) topic(r *http.Request) (any, error) {
	var t topicView
	if err := p.get(r, "/v1/topics/"+url.PathEscape(r.URL.Query().Get("name")), &t.Topic); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
		t.Settings = append(t.Settings, setting{name, t.Configs[name]})
	}
	return t, nil
}

func (p *pages) gateways(r *http.Request) (any, error) {
	var all []console.Gateway
	if err := p.get(r, "/v1/gateways", &all); err != nil {
		return nil, err
	}
	sortGateways(all)
	return search(r, all, func(g console.Gateway) string { return g.ID + " " + g.Address + " " + stateOf(g).Text }), nil
}

func (p *pages) gateway(r *http.Request) (any, error) {
	id := r.URL.Query().Get("id")
	if id == "" {
		return nil, refusal{http.StatusNotFound, "the id of the gateway is missing"}
	}
	var g console.GatewayDetail
	err := p.get(r, "/v1/gateways/"+url.PathEscape(id), &g)
	return g, err
}

func (p *pages) groups(r *http.Request) (any, error) {
	var all []console.Group
	if err := p.get(r, "/v1/groups", &all); err != nil {
		return nil, err
	}
	return search(r, all, func(g console.Group) string { return g.ID }), nil
}

func (p *pages) group(r *http.Request) (any, error) {
	var one []console.Group
	id := r.URL.Query().Get("id")
	if id == "" {
		return nil, refusal{http.StatusNotFound, "the id of the group is missing"}
	}
	if err := p.get(r, link("/v1/groups", "id", id), &one); err != nil {
		return nil, err
	}
	if len(one) != 1 {
		return nil, refusal{http.StatusNotFound, "there is no group " + id}
	}
	return one[0], nil
}

// clusterView is what the page of nodes and shards shows.
type clusterView struct {
	Node     string // that answered
	Nodes    []console.ClusterNode
	Shards   []console.ShardStatus
	Problems []string
}

func (p *pages) nodes(r *http.Request) (any, error) {
	var nodes console.Nodes
	if err := p.get(r, "/v1/nodes", &nodes); err != nil {
		return nil, err
	}
	return clusterView{nodes.Node, nodes.Nodes, nodes.Shards, nodes.Problems}, nil
}

func (p *pages) errors(r *http.Request) (any, error) {
	var lines console.Lines
	err := p.get(r, "/v1/errors", &lines)
	return lines, err
}
