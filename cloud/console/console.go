// Package console serves a node's admin port: liveness, readiness, metrics, and the
// calls that weirctl makes. Package admin guards it.
package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/recent"
	"github.com/weirmq/weir/cloud/split"
	"github.com/weirmq/weir/sync/join"
)

const maxTokenSeconds = 10 * 365 * 24 * 3600 // life of a join token

// Options configure the console. All fields before State are required.
type Options struct {
	Guard   *admin.Guard // New registers the calls with it
	Broker  *broker.Broker
	Fleet   func() *fleet.Fleet // this and the next two return nil while this node does not own the shard
	Users   func() *auth.Auth
	Quotas  func() *quota.Quotas
	Drop    func(gateway string) // ends that session: the gateway comes back if it may
	Role    func() string        // owner, recovering or standby
	Metrics *measure.Registry
	State   func() State  // nil: no state is known
	Recent  *recent.Lines // nil: none are kept

	// Missing returns the roles that the cluster needs and no live node has. nil: none.
	Missing func() cluster.Roles

	// Nodes asks all nodes of the cluster what they say of themselves, and waits for each
	// for a short while. Shards makes the list of shards from that.
	Nodes  func(context.Context) []ClusterNode
	Shards func([]ClusterNode) []ShardStatus

	// Late returns the names of nodes that have not applied the last changes of the catalogue;
	// nil: none is ever late.
	Late func(context.Context) []string

	// Forward passes a request on to the owner and copies its answer. It reports
	// whether it did; if not, the request is unchanged.
	Forward func(http.ResponseWriter, *http.Request) bool

	// Split begins to move slices to new shards, so that so many have data, or with dry says
	// what would move. SplitState returns what has become of that. Both are for the owner.
	Split      func(ctx context.Context, data int, dry bool) (Split, error)
	SplitState func() (Split, error)

	// RevokeNode revokes a node; with unknown, also one that nobody has heard of. ResetNode
	// lets it in again. Both are for the owner.
	RevokeNode func(ctx context.Context, name string, unknown bool) (RevokedNode, error)
	ResetNode  func(ctx context.Context, name string) error

	// NodeToken makes a token with which a node without the CA's key gets its certificate. It
	// is for the owner.
	NodeToken func(ctx context.Context, name string, life time.Duration) (string, error)

	// Records are those of all partitions; default: of those that this node leads.
	Records *broker.Records

	// Ask performs a request at another node, with this node's own credential: the caller's
	// was checked. It returns the status and the body of the answer. nil: there is no other
	// node to ask.
	Ask func(r *http.Request, body []byte, node broker.Node) (status int, answer []byte, err error)

	// Removed is called when an administrator was removed.
	Removed func(ctx context.Context, name string) error

	CloseMetrics bool // reading the metrics needs a credential
}

// Roles of a node, as shown by /healthz and /v1/node.
const (
	RoleOwner      = "owner"
	RoleRecovering = "recovering"
	RoleStandby    = "standby"
)

type console struct {
	Options
	reads chan struct{} // a token for each request that reads records
}

// call handles a request and returns the body of the answer, or an error.
type call func(*http.Request) (any, error)

// New registers the calls with the guard, and returns it.
func New(o Options) http.Handler {
	if o.Records == nil {
		o.Records = broker.NewRecords(o.Broker, broker.RecordsOptions{})
	}
	c := &console{o, make(chan struct{}, maxReads)}
	g := o.Guard
	g.Handle(admin.Open, "GET /healthz", c.healthz)
	g.Handle(admin.Open, "GET /readyz", c.readyz)
	measures := admin.Open
	if o.CloseMetrics {
		measures = admin.Read
	}
	g.Handle(measures, "GET /metrics", c.metrics)
	g.Handle(admin.Read, "GET /v1/node", c.node)
	g.Handle(admin.Read, "GET /v1/errors", c.lines)
	g.Handle(admin.Read, "GET /v1/status", c.status)
	g.Handle(admin.Read, "GET /v1/nodes", c.nodes)
	g.Handle(admin.Read, "GET /v1/shards", c.shards)
	for need, calls := range map[admin.Role]map[string]call{
		admin.Read: {
			"GET " + admin.WhoPath:  c.credential,
			"GET /v1/topics":        c.topics,
			"GET /v1/topics/{name}": c.topic,
			"GET /v1/gateways":      c.gateways,
			"GET /v1/gateways/{id}": c.gateway,
			"GET /v1/groups":        c.groups,
			"GET /v1/groups/{id}":   c.group,
			"GET /v1/users":         c.users,
			"GET /v1/acls":          c.acls,
			"GET /v1/permissions":   c.permissions,
			"GET /v1/vhosts":        c.vhosts,
			"GET /v1/queues":        c.queues,
			"GET /v1/quotas":        c.quotas,
			"GET /v1/shards/split":  c.splitState,
		},
		admin.Operate: {
			// The content of records needs more than the right to read or no
			// credential.
			"GET /v1/topics/{name}/records":     c.records,
			"POST /v1/topics/{name}/records":    c.appendRecords,
			"POST /v1/topics":                   c.createTopic,
			"DELETE /v1/topics/{name}":          c.deleteTopic,
			"POST /v1/topics/{name}/partitions": c.growTopic,
			"POST /v1/topics/{name}/configs":    c.alterTopic,
			"POST /v1/gateways/{change}":        c.changeGateway,
			"POST /v1/gateways/{id}/{change}":   c.changeGateway,
			"DELETE /v1/groups":                 c.deleteGroup,
			"DELETE /v1/groups/{id}":            c.deleteGroup,
			"POST /v1/join-tokens":              c.newToken,
			"POST /v1/vhosts":                   c.createVhost,
			"GET /v1/queues/messages":           c.messages,
			"POST /v1/queues/{change}":          c.changeQueue,
			"DELETE /v1/queues":                 c.deleteQueue,
			"POST /v1/shards/split":             c.split,
		},
		admin.Administer: {
			"POST /v1/users":          c.setUser,
			"DELETE /v1/users":        c.deleteUser,
			"DELETE /v1/users/{name}": c.deleteUser,
			"POST /v1/acls":           c.addACLs,
			"DELETE /v1/acls":         c.deleteACLs,
			"POST /v1/permissions":    c.setPermissions,
			"DELETE /v1/permissions":  c.clearPermissions,
			"POST /v1/quotas":         c.setQuota,
			"GET /v1/admins":          c.admins,
			"POST /v1/admins":         c.setAdmin,
			"DELETE /v1/admins":       c.removeAdmin,
			"POST /v1/nodes/revoke":   c.revokeNode,
			"POST /v1/nodes/reset":    c.resetNode,
			"POST /v1/nodes/token":    c.newNodeToken,

			"DELETE /v1/vhosts":            c.deleteVhost, // with permissions
			"POST /v1/topic-permissions":   c.setTopicPermissions,
			"DELETE /v1/topic-permissions": c.clearTopicPermissions,
		},
	} {
		for pattern, handle := range calls {
			g.Handle(need, pattern, c.answer(handle))
		}
	}
	return g
}

// Elsewhere answers a request whose credential this node cannot check: it is forwarded
// to the owner, or the answer names the owner.
func Elsewhere(b *broker.Broker, forward func(http.ResponseWriter, *http.Request) bool) http.Handler {
	c := &console{Options: Options{Broker: b, Forward: forward}}
	return c.answer(func(*http.Request) (any, error) {
		return nil, fmt.Errorf("%w, and %w: the owner can", broker.ErrNotOwner, admin.ErrElsewhere)
	})
}

// named returns the name in a request: an element of its path, or else a parameter. As
// path elements "." and ".." never arrive.
func named(r *http.Request, name string) string {
	value := cmp.Or(r.PathValue(name), r.URL.Query().Get(name))
	admin.Note(r, "name", value)
	return value
}

// Alive is the body of /healthz. Standbys use it to check that an owner is alive.
type Alive struct {
	Node string `json:"node"`
	Role string `json:"role"`
}

func (c *console) healthz(w http.ResponseWriter, _ *http.Request) {
	admin.Reply(w, http.StatusOK, Alive{c.Broker.Self().Name, c.Role()})
}

// readyz: a node is ready if its doors can answer or can name the owner, and nodes with
// all roles are there.
func (c *console) readyz(w http.ResponseWriter, _ *http.Request) {
	if roles := c.missing(); roles != 0 {
		admin.Reply(w, http.StatusServiceUnavailable, Error{Error: "no live node has the roles that the cluster needs: " + roles.String()})
		return
	}
	if _, known := c.Broker.Controller(); !known {
		admin.Reply(w, http.StatusServiceUnavailable, Error{Error: "no owner is known yet"})
		return
	}
	admin.Reply(w, http.StatusOK, Alive{c.Broker.Self().Name, c.Role()})
}

func (c *console) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", exposition.ContentType)
	_ = exposition.Write(w, c.Metrics.WritePrometheus, metrics.WriteProcessMetrics, metrics.WriteFDMetrics) // an error means that the client is gone
}

func (c *console) node(w http.ResponseWriter, _ *http.Request) {
	self := c.Broker.Self()
	owner, _ := c.Broker.Controller()
	admin.Reply(w, http.StatusOK, Node{Name: self.Name, Role: c.Role(), Epoch: c.epoch(), Cluster: c.Broker.ClusterID(),
		Owner: owner.Name, Kafka: owner.Address(cluster.Kafka), Sync: owner.Address(cluster.Sync), HTTP: owner.Address(cluster.HTTP)})
}

// epoch is the leader epoch of this node, -1 if it does not own the shard.
func (c *console) epoch() int32 {
	if l, _ := c.Broker.Controller(); c.Broker.IsController() {
		return l.Epoch
	}
	return -1
}

// answer turns a call into a handler.
func (c *console) answer(handle call) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c.Forward != nil && !c.Broker.IsController() && !admin.IsForwarded(r) && c.Forward(w, r) {
			return
		}
		asked, err := c.keepBody(r)
		var body any
		if err == nil {
			c.Broker.AwaitSure(r.Context())
			controls := c.Broker.IsController()
			if body, err = handle(r); controls {
				err = c.refusal(r, err)
			}
		}
		if owner, elsewhere := c.elsewhere(err); elsewhere {
			c.pass(w, r, asked, owner)
			return
		}
		if err != nil {
			owner, _ := c.Broker.Controller()
			status := status(err)
			e := Error{Error: err.Error()}
			if status == http.StatusMisdirectedRequest {
				e.Owner = owner.Address(cluster.HTTP)
			}
			admin.Reply(w, status, e)
			return
		}
		if r.Method != http.MethodGet && c.Late != nil {
			if late := c.Late(r.Context()); len(late) > 0 {
				w.Header().Set(LateHeader, strings.Join(late, ", "))
			}
		}
		admin.Reply(w, http.StatusOK, body)
	}
}

// refusal returns the error with which the owner of the catalogue refuses a request. If a
// change is refused because something does not exist, the bucket first has to say that this
// node still owns it: a process that was stopped for a while may have lost it.
func (c *console) refusal(r *http.Request, err error) error {
	if err == nil || r.Method == http.MethodGet || status(err) != http.StatusNotFound {
		return err
	}
	if lost := c.Broker.ConfirmCatalogue(r.Context()); lost != nil {
		return lost
	}
	return err
}

// LateHeader of an answer to a change names the nodes that have not applied it yet. One that
// hears nothing of the owner of the catalogue goes on with what it knew for a minute.
const LateHeader = "Weir-Late-Nodes"

// errInput: the request is not valid.
var errInput = errors.New("bad request")

func status(err error) int {
	var tooLarge *http.MaxBytesError
	var routes *routing.Error
	switch {
	case errors.Is(err, broker.ErrNotOwner):
		return http.StatusMisdirectedRequest
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrNoLeader), errors.Is(err, group.ErrClosed), errors.Is(err, group.ErrUnavailable),
		errors.Is(err, broker.ErrFenced), errors.Is(err, broker.ErrClosed), errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrStarting):
		return http.StatusServiceUnavailable
	case errors.Is(err, broker.ErrUnknownTopic), errors.Is(err, fleet.ErrUnknownGateway), errors.Is(err, auth.ErrUnknownUser), errors.Is(err, auth.ErrUnknownAdmin),
		errors.Is(err, auth.ErrUnknownPermissions), errors.Is(err, group.ErrUnknownGroup), errors.Is(err, queue.ErrNoVhost), errors.Is(err, queue.ErrNoQueue):
		return http.StatusNotFound
	case errors.Is(err, broker.ErrTopicExists), errors.Is(err, group.ErrGroupNotEmpty),
		errors.Is(err, queue.ErrExclusive), errors.Is(err, queue.ErrInUse), errors.Is(err, queue.ErrNotEmpty), errors.Is(err, queue.ErrUnroutable), errors.Is(err, queue.ErrOverflow):
		return http.StatusConflict
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, auth.ErrTooMany), errors.Is(err, quota.ErrTooMany), errors.Is(err, machine.ErrLevel), errors.Is(err, split.ErrShards), errors.Is(err, ErrNode):
		return http.StatusConflict
	case errors.As(err, &routes), errors.Is(err, queue.ErrInvalid), errors.Is(err, errInput), errors.Is(err, auth.ErrInvalid), errors.Is(err, quota.ErrInvalid), errors.Is(err, join.ErrGatewayID), errors.Is(err, fleet.ErrPattern), errors.Is(err, broker.ErrInvalidTopic), errors.Is(err, broker.ErrInvalidPartitions), errors.Is(err, broker.ErrInvalidConfig):
		return http.StatusBadRequest
	default:
		return http.StatusInternalServerError
	}
}

// decode reads a request's JSON body; an unknown member is an error.
func decode[T any](r *http.Request) (T, error) {
	var v T
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return v, err
		}
		return v, fmt.Errorf("%w: %w", errInput, err)
	}
	return v, nil
}

func (c *console) newToken(r *http.Request) (any, error) {
	req, err := decode[NewToken](r)
	if err != nil {
		return nil, err
	}
	if req.Uses < 0 || req.Seconds < 0 || req.Seconds > maxTokenSeconds {
		return nil, fmt.Errorf("%w: uses must not be negative, and seconds must be from 0 to %d", errInput, maxTokenSeconds)
	}
	f := c.Fleet()
	if f == nil {
		return nil, broker.ErrNotOwner
	}
	uses, life := fleet.DefaultTokenUses, fleet.DefaultTokenLife
	if req.Uses != 0 {
		uses = req.Uses
	}
	if req.Seconds != 0 {
		life = time.Duration(req.Seconds) * time.Second
	}
	admin.Note(r, "uses", uses, "life", life, "gateways", req.Gateways, "topics", req.Topics)
	token, err := f.NewToken(r.Context(), uses, life, req.Gateways, req.Topics...)
	return Token{token}, err
}

func (c *console) changeGateway(r *http.Request) (any, error) {
	f := c.Fleet()
	if f == nil {
		return nil, broker.ErrNotOwner
	}
	id, topics := r.PathValue("id"), []string(nil)
	if id == "" {
		req, err := decode[GatewayChange](r)
		if err != nil {
			return nil, err
		}
		id, topics = req.Gateway, req.Topics
	}
	admin.Note(r, "gateway", id)
	if topics != nil {
		admin.Note(r, "topics", topics)
	}
	var change func(context.Context, string) error
	switch r.PathValue("change") {
	case "reset":
		change = f.Reset
	case "revoke":
		change = f.Revoke
	case "allow":
		change = func(ctx context.Context, id string) error { return f.Allow(ctx, id, topics) }
	case "deny":
		change = func(ctx context.Context, id string) error { return f.Deny(ctx, id, topics) }
	default:
		return nil, fmt.Errorf("%w: the change to a gateway must be reset, revoke, allow or deny", errInput)
	}
	if err := change(r.Context(), id); err != nil {
		return nil, err
	}
	c.Drop(id)
	return struct{}{}, nil
}

// partitions reads a count from a query parameter.
func partitions(r *http.Request) (int32, error) {
	n, err := strconv.ParseInt(r.URL.Query().Get("count"), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: count must be the new number of partitions: %w", errInput, err)
	}
	return int32(n), nil
}
