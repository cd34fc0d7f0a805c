package cloud

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
)

const (
	// maxAlive bounds the answer of a node without a peer port to the question whether
	// it is alive, in bytes.
	maxAlive = 4 << 10
	// maxPeers is how many connections the peer port takes, maxNewPeers how many of
	// those may not have shown a certificate yet. Each of 63 other nodes has up to 11, and
	// for a while those of its former life.
	maxPeers    = 1536
	maxNewPeers = 32
)

// peers is this node's connection to the others of its cluster.
type peers struct {
	listener net.Listener // nil: --peer off
	server   *peer.Server // likewise
	client   *peer.Client
	identity *join.NodeIdentity
	http     *http.Client // asks nodes without a peer port, directly
	nodes    heardNodes
	heard    atomic.Int64 // when another node last asked this one, in Unix nanoseconds; 0: never
	served   atomic.Int64 // questions of nodes over the peer port
	counters cluster.Counters
	looks    atomic.Uint64 // for questions in the bucket
	answers  atomic.Uint64 // slots that were written for them
	asked    *budget.Episode
}

// peerGate limits the connections of the peer port.
func peerGate() budget.GateOptions {
	return budget.GateOptions{Name: "peer", Max: maxPeers, Strangers: maxNewPeers, Reserved: true}
}

// listenPeer opens the peer port; its address is known after it.
func (n *Node) listenPeer() error {
	var boot [8]byte
	rand.Read(boot[:]) // never fails
	n.self.Boot = hex.EncodeToString(boot[:])
	n.peers.asked = budget.NewEpisode(budget.EpisodeOptions{
		Begin: "another node cannot reach --peer of this one and asks through the bucket whether it is alive: check the network between them",
		End:   "no other node has asked through the bucket for a while", Quiet: 10 * n.takeover(), Log: n.o.Log})
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute} // no proxy: its answer is not the node's
	n.peers.http = &http.Client{Transport: transport}
	n.closers = append(n.closers, func() error { transport.CloseIdleConnections(); return nil })
	n.measurePeers()
	identity, err := n.nodeIdentity()
	if err != nil {
		return err
	}
	identity.Admit = n.admitNode
	n.peers.client, n.peers.identity = peer.NewClient(identity), identity
	n.metrics.NewGauge("weir_node_certificate_expires_seconds", func() float64 {
		expires, err := identity.Expires()
		if err != nil {
			return 0
		}
		return time.Until(expires).Seconds()
	})
	n.closers = append(n.closers, n.peers.client.Close)
	if n.o.Peer == Off {
		return nil
	}
	if n.peers.listener, err = n.o.Sockets.Listen(cluster.Peer, n.o.Peer); err != nil {
		return fmt.Errorf("listen on --peer: %w", err)
	}
	n.askPeer(n.peers.listener.Addr(), identity)
	server := peer.New(peer.Options{Listener: n.peers.listener, Identity: identity, Self: n.answer, Report: n.reported, Succession: func(ctx context.Context, step []byte) ([]byte, error) { return n.manager.Succeeds(ctx, step) }, Heard: n.servedTo, Forwarded: n.forwarded, Race: n.joinRaces, Log: n.o.Log,
		Catalogue: n.catalogueFor, Copy: n.copyFor, CreateTopic: n.createFor, NewProducerID: n.producerFor, Kafka: n.performFor, AMQP: n.tunnelled,
		VerifyTransaction: n.verifyFor, EndTransaction: n.endFor,
		Create: n.createHere, Slices: n.answerMove,
		Records: n.recordsFor, FollowRecords: n.followFor,
		Drop: func(ctx context.Context, shard uint32, topic weir.TopicID, at journal.Position) error {
			return n.broker.DropTopic(ctx, shard, topic, at)
		},
		Management:  n.manageFor,
		Ready:       n.knowsRevoked,
		Sessions:    func() ([]byte, error) { return json.Marshal(n.sessions()) },
		Status:      n.statusFor,
		Notices:     n.noticesFor,
		Relay:       n.relayed,
		Attachments: peer.Attachments{Number: n.numberFor, Attach: n.attachFor},
		Membership:  peer.Membership{Join: n.joinHere, Renew: n.renewHere, Resolve: n.resolveFor},
		Nodes:       peer.NodeMembership{Join: n.joinNode, JoinHere: n.joinNodeHere, Renew: n.renewNode},
		Gate:        n.conns.Gate(peerGate())})
	n.peers.server = server
	n.closers = append(n.closers, server.Close)
	n.doors = append(n.doors, door{"peer", server.Serve})
	n.metrics.Door(measure.Door{Name: "peer", Counts: server.Counts})
	n.self.Addresses.Add(cluster.Peer, "", n.advertised(n.peers.listener.Addr()))
	return nil
}

func (n *Node) takeover() time.Duration {
	switch {
	case n.o.Takeover != 0:
		return n.o.Takeover
	case n.shards.created > 1: // it does not change while the node runs
		return severalTakeover
	}
	return cluster.DefaultTakeover
}

// severalTakeover is the default in a cluster that was created with several shards, where no
// node loses all that it has by a takeover too many.
const severalTakeover = 2 * time.Second

// answer is what this node reports about itself to nodes that do not send reports.
func (n *Node) answer() peer.Answer {
	a := peer.Answer{Node: n.o.Node, Boot: n.self.Boot, Role: n.Role()}
	if state, next := n.progress(catalogueShard); !n.several() && state != cluster.Recovering {
		a.Epoch, a.Slot = next.Epoch, next.Slot
	}
	return a
}

// progress is for cluster.Manager: how far this node is with a shard that it leads, or is
// about to lead.
func (n *Node) progress(id uint32) (cluster.State, journal.Position) {
	own := n.shards.get(id)
	if own == nil || n.shards.roleOf(id) != console.RoleOwner {
		return cluster.Recovering, journal.Position{}
	}
	if own.doubt.Load() {
		return cluster.Doubting, own.Log.Acked()
	}
	return cluster.Owning, own.Log.Acked()
}

// reported answers the report of another node.
func (n *Node) reported(node string, body []byte) ([]byte, error) {
	r, err := cluster.ReadReport(body)
	if err != nil {
		return nil, err
	}
	if r.Node.Name != node {
		return nil, fmt.Errorf("node %q sends a report of %q", node, r.Node.Name)
	}
	return n.manager.Heard(r).Encode()
}

// servedTo records that a node has asked this one over the peer port.
func (n *Node) servedTo(node string) {
	n.peers.served.Add(1)
	n.heardOf(node)
}

// heardOf records that a node has asked this one, over the peer port or through the
// bucket.
func (n *Node) heardOf(node string) {
	if node != n.o.Node { // this node asks its own doors too
		n.peers.heard.Store(time.Now().UnixNano())
		n.peers.nodes.note(node, time.Now(), n.gone())
	}
}

// ask sends this node's report to another one, and returns what that one answers.
func (n *Node) ask(ctx context.Context, to cluster.Node, mine cluster.Report) (cluster.Report, error) {
	answer, err := n.askAt(ctx, to, mine)
	if peer.Refused(err) {
		err = fmt.Errorf("%w: %w", cluster.ErrRefused, err)
	}
	return answer, err
}

func (n *Node) askAt(ctx context.Context, to cluster.Node, mine cluster.Report) (cluster.Report, error) {
	address := to.Address(cluster.Peer)
	if address == "" {
		return n.askHTTP(ctx, to)
	}
	body, err := mine.Encode()
	if err != nil {
		return cluster.Report{}, err
	}
	body, err = n.peers.client.Report(ctx, to.Name, address, body)
	if err == nil {
		return cluster.ReadReport(body)
	}
	if !errors.Is(err, peer.ErrUnknownVerb) {
		return cluster.Report{}, err
	}
	answer, err := n.peers.client.Ping(ctx, to.Name, address)
	if err != nil {
		return cluster.Report{}, err
	}
	return earlierReport(answer), nil
}

// earlierReport is what a node of a version without reports says of the only shard.
func earlierReport(a peer.Answer) cluster.Report {
	r := cluster.Report{Node: cluster.Node{Name: a.Node, Boot: a.Boot}}
	one := cluster.ShardReport{Epoch: a.Epoch, Slot: a.Slot}
	switch a.Role {
	case console.RoleOwner:
		one.State = cluster.Owning
	case console.RoleRecovering:
		one.State = cluster.Recovering
	default:
		return r
	}
	r.Shards = []cluster.ShardReport{one}
	return r
}

// askHTTP asks a node without a peer port.
func (n *Node) askHTTP(ctx context.Context, to cluster.Node) (cluster.Report, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.Address(cluster.HTTP)+"/healthz", nil)
	if err != nil {
		return cluster.Report{}, err
	}
	res, err := n.peers.http.Do(req)
	if err != nil {
		return cluster.Report{}, err
	}
	defer res.Body.Close()
	var alive console.Alive
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAlive)).Decode(&alive); err != nil {
		return cluster.Report{}, fmt.Errorf("decode the answer: %w", err)
	}
	// It does not tell one process of a node from the next.
	return earlierReport(peer.Answer{Node: alive.Node, Boot: to.Boot, Role: alive.Role}), nil
}

// measurePeers adds the metrics of standing by.
func (n *Node) measurePeers() {
	p := &n.peers
	for name, value := range map[string]*atomic.Uint64{
		`weir_takeover_withheld_total{reason="alive"}`:    &p.counters.WithheldAlive,
		`weir_takeover_withheld_total{reason="heard"}`:    &p.counters.WithheldHeard,
		`weir_takeover_withheld_total{reason="patience"}`: &p.counters.WithheldPatience,
		"weir_takeovers_total":                            &p.counters.Takeovers,
		"weir_handovers_total":                            &p.counters.Handovers,
		"weir_takeover_questions_total":                   &p.counters.Asks,
		"weir_takeover_question_looks_total":              &p.looks,
		"weir_takeover_answers_total":                     &p.answers,
	} {
		n.metrics.NewGauge(name, func() float64 { return float64(value.Load()) })
	}
	n.metrics.NewGauge("weir_catalogue_age_seconds", n.copyAge)
	n.metrics.RegisterMetricsWriter(n.writePeers)
	n.moves = n.newMoves()
	n.recoveries = n.metrics.NewPrometheusHistogramExt("weir_shard_recovery_seconds", exposition.Seconds())
}

// answerBucket answers nodes that cannot reach this owner, through the bucket, until
// ctx ends.
func (n *Node) answerBucket(ctx context.Context, log *commitlog.Log) {
	cluster.Answer(ctx, n.takeover(), log.Acked,
		func(ctx context.Context) (string, bool, error) {
			n.peers.looks.Add(1)
			return log.Answer(ctx)
		},
		func(who string, err error) {
			n.heardOf(who)
			if err != nil {
				n.o.Log.Warn("another node asked through the bucket whether this one is alive, and got no answer", "node", who, "err", err)
				return
			}
			n.peers.answers.Add(1)
			n.peers.asked.Note("node", who)
		})
}
