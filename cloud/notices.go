package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/pause"
)

// In a cluster of several shards gateways lose records, are refused and leave at nodes that
// do not own the catalogue. Those tell its owner, which keeps what is known of gateways.

const (
	// noticeEvery is how often a node tells the owner what is new, and noticeTime how long
	// that may take.
	noticeEvery = time.Second
	noticeTime  = 5 * time.Second
	// maxNoticed is of how many gateways a node keeps notices that it could not pass on, and
	// maxTold of how many it passes them on at once: maxKinds refusals of each fit into a
	// request.
	maxNoticed = 10_000
	maxTold    = 20
	maxKinds   = 8
	// maxNoticeText bounds what is said about a refusal, in bytes. The fleet keeps less.
	maxNoticeText = 1000
)

// notice is what a node has noticed of a gateway since it last told the owner.
type notice struct {
	Gateway  string          `json:"gateway"`
	Lost     uint64          `json:"lost,omitempty"` // records
	Contact  *fleet.Contact  `json:"contact,omitempty"`
	Refusals []fleet.Refusal `json:"refusals,omitempty"` // equal ones once
}

// told is the body of a request. The owner takes one of a boot up once, by its number: a
// request may be repeated because its answer was lost.
type told struct {
	Boot     string   `json:"boot"`
	Number   uint64   `json:"number"`
	Gateways []notice `json:"gateways"`
}

// notices are those that this node has not passed on, and those that it got as the owner.
type notices struct {
	mu     sync.Mutex // guards what follows
	kept   map[string]*notice
	under  *told // way; nil: the last one is answered
	number uint64
	taken  map[string]told // by node: the last one, without its gateways
}

func newNotices() *notices {
	return &notices{kept: make(map[string]*notice), taken: make(map[string]told)}
}

// note changes the notice of a gateway. Beyond maxNoticed gateways it does nothing.
func (n *notices) note(gateway string, change func(*notice)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	one := n.kept[gateway]
	if one == nil {
		if len(n.kept) >= maxNoticed {
			return
		}
		one = &notice{Gateway: gateway}
		n.kept[gateway] = one
	}
	change(one)
}

// refuse adds a refusal to a notice.
func (o *notice) refuse(r fleet.Refusal) {
	for i := range o.Refusals {
		if same := &o.Refusals[i]; same.Topic == r.Topic && same.Reason == r.Reason {
			same.Times, same.Records = same.Times+1, same.Records+r.Records
			return
		}
	}
	if len(o.Refusals) < maxKinds {
		r.Times, r.Text = 1, r.Text[:min(len(r.Text), maxNoticeText)]
		o.Refusals = append(o.Refusals, r)
	}
}

// next returns what is to be told now, nil if there is nothing. What was not answered comes
// again first, as it was.
func (n *notices) next(boot string) *told {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.under != nil || len(n.kept) == 0 {
		return n.under
	}
	n.number++
	n.under = &told{Boot: boot, Number: n.number}
	for _, id := range slices.Sorted(maps.Keys(n.kept)) {
		if len(n.under.Gateways) == maxTold {
			break
		}
		n.under.Gateways = append(n.under.Gateways, *n.kept[id])
		delete(n.kept, id)
	}
	return n.under
}

// done notes that the last one was taken up.
func (n *notices) done() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.under = nil
}

// first reports whether a request has not been taken up yet, and notes that it is now.
func (n *notices) first(node string, t told) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.taken[node]; last.Boot == t.Boot && t.Number <= last.Number {
		return false
	}
	n.taken[node] = told{Boot: t.Boot, Number: t.Number}
	return true
}

// noticed records what this node has noticed of a gateway: in the fleet if it owns the
// catalogue, else for its owner.
func (n *Node) noticed(gateway string, here func(*fleet.Fleet), there func(*notice)) {
	if members := n.fleet(); members != nil {
		here(members)
	} else if n.several() {
		n.notices.note(gateway, there)
	}
}

// tellOwner tells the owner of the catalogue what this node has noticed, until ctx ends.
func (n *Node) tellOwner(ctx context.Context) {
	for ctx.Err() == nil {
		_ = pause.For(ctx, noticeEvery)
		for ctx.Err() == nil {
			next := n.notices.next(n.self.Boot)
			if next == nil {
				break
			}
			if err := n.tell(ctx, *next); err != nil {
				n.o.Log.Debug("what was noticed of gateways is told to the owner of the catalogue later", "err", err)
				break
			}
			n.notices.done()
		}
	}
}

// tell passes notices on. An owner of an earlier version does not take them: they are
// dropped.
func (n *Node) tell(ctx context.Context, t told) error {
	if members := n.fleet(); members != nil { // this node has become the owner
		t.record(members)
		return nil
	}
	owner, ok := n.ingest.elsewhere(catalogueShard)
	if !ok {
		return errors.New("it is not known which node owns the catalogue")
	}
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	err = n.peers.client.Notices(ctx, owner.Name, owner.Address(cluster.Peer), body)
	if errors.Is(err, peer.ErrUnknownVerb) {
		return nil
	}
	return err
}

// noticesFor takes up what another node has noticed.
func (n *Node) noticesFor(node string, body []byte) error {
	var t told
	if err := json.Unmarshal(body, &t); err != nil {
		return fmt.Errorf("decode notices: %w", err)
	}
	if len(t.Gateways) > maxTold || slices.ContainsFunc(t.Gateways, func(o notice) bool { return len(o.Refusals) > maxKinds }) {
		return errors.New("there are more notices than one request may have")
	}
	members := n.fleet()
	if members == nil {
		return errStandby
	}
	if n.notices.first(node, t) {
		t.record(members)
	}
	return nil
}

// record adds notices to the fleet, which leaves out those of gateways that are no members.
func (t told) record(members *fleet.Fleet) {
	for _, o := range t.Gateways {
		members.Lost(o.Gateway, o.Lost)
		if o.Contact != nil {
			members.Heard(o.Gateway, *o.Contact)
		}
		for _, r := range o.Refusals {
			members.Refused(o.Gateway, r)
		}
	}
}
