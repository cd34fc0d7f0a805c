package kafka

import (
	"context"
	"math"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// spread is a share session of a client whose partitions several nodes lead. It has a
// session with each of them, over the client's tunnel to it.
type spread struct {
	whole *share.Session
	at    map[string]*shareAt // by the name of the node
}

// shareAt is the session with one node.
type shareAt struct {
	tunnel *tunnel // with which the session ends
	epoch  int32   // of the next request; 0: it is not open
	has    map[share.Place]bool
}

// session returns the session of a request: see shareSession.
func (r *request) spreadSession(group, member string, epoch int32) (*spread, error) {
	if err := r.mayGroup(kmsg.ACLOperationRead, group); err != nil {
		return nil, err
	}
	if group == "" || member == "" {
		return nil, refused(kerr.InvalidRequest, "no group id or no member id")
	}
	x := r.conn.relay
	key := [2]string{group, member}
	if epoch == openShare {
		whole, err := r.conn.s.spreads.Open(group, member)
		if err != nil {
			return nil, err
		}
		if before := x.shares[key]; before != nil {
			for name := range before.at {
				before.end(r, name)
			}
		}
		x.shares[key] = &spread{whole, make(map[string]*shareAt)}
	}
	sp := x.shares[key]
	switch {
	case sp == nil:
		return nil, share.ErrNoSession
	case epoch == openShare:
		return sp, nil
	case epoch == closeShare:
		delete(x.shares, key)
		defer sp.whole.Close()
	}
	return sp, sp.whole.Check(epoch)
}

// with returns the session with a node.
func (sp *spread) with(x *relay, to broker.Node) *shareAt {
	t := x.to(to)
	at := sp.at[to.Name]
	if at == nil || at.tunnel != t {
		at = &shareAt{tunnel: t, has: make(map[share.Place]bool)}
		sp.at[to.Name] = at
	}
	return at
}

// end ends the session with a node, which gives back what the member has acquired there, as
// soon as the node gets to it. Requests after that open another one.
func (sp *spread) end(r *request, name string) {
	at := sp.at[name]
	delete(sp.at, name)
	if at == nil || at.epoch == openShare || at.tunnel.over() {
		return
	}
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.Version = firstShareAcknowledge
	q.GroupID, q.MemberID, q.ShareSessionEpoch = &sp.whole.Group, &sp.whole.Member, closeShare
	at.tunnel.send(&exchange{key: q.Key(), version: q.Version, clientID: r.clientID, tagged: true, body: net.Buffers{q.AppendTo(nil)}, done: func([]byte, error) {}})
}

// unopened forgets a session with a node if the request that would have opened it was not sent.
// So nothing is sent to end it: what waits for an owner that is late does not grow with each
// request of the client.
func (sp *spread) unopened(one portion) {
	if one.q.(*kmsg.ShareFetchRequest).ShareSessionEpoch == openShare {
		delete(sp.at, one.to.Name)
	}
}

// firstShareAcknowledge is a version of ShareAcknowledge that all owners know.
const firstShareAcknowledge = 1

// next returns the epoch of a request, and expects the one after it.
func (at *shareAt) next() int32 {
	epoch := at.epoch
	if at.epoch == math.MaxInt32 {
		at.epoch = 0
	}
	at.epoch++
	return epoch
}

// shareParts gathers what each node gets of a request.
type shareParts struct {
	r     *request
	sp    *spread
	group string
	nodes []broker.Node
	place map[string][]share.Place // that a node leads, of the session
	acks  map[string][]share.Place // that are acknowledged there
	batch map[share.Place][]kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch
}

func (p *shareParts) node(at share.Place) string {
	to := p.r.conn.relay.leader(at.Topic, at.Partition)
	if !slices.ContainsFunc(p.nodes, func(n broker.Node) bool { return n.Name == to.Name }) {
		p.nodes = append(p.nodes, to)
	}
	return to.Name
}

// wants adds a partition of the session.
func (p *shareParts) wants(at share.Place) {
	name := p.node(at)
	p.place[name] = append(p.place[name], at)
}

// acknowledges adds acknowledgements.
func (p *shareParts) acknowledges(at share.Place, all []kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch) {
	if len(all) == 0 || p.batch[at] != nil { // if the partition is named twice, the first counts
		return
	}
	name := p.node(at)
	p.acks[name], p.batch[at] = append(p.acks[name], at), all
}

func newShareParts(r *request, sp *spread, group string) *shareParts {
	return &shareParts{r: r, sp: sp, group: group, place: make(map[string][]share.Place), acks: make(map[string][]share.Place),
		batch: make(map[share.Place][]kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch)}
}

// spreadFetch performs a ShareFetch.
func (r *request) spreadFetch(ctx context.Context, q *kmsg.ShareFetchRequest) (*kmsg.ShareFetchResponse, error) {
	resp := kmsg.NewPtrShareFetchResponse()
	resp.Version, r.relayed = q.Version, true
	fail := func(err error) (*kmsg.ShareFetchResponse, error) {
		*resp = kmsg.NewShareFetchResponse()
		resp.Version, resp.ErrorCode, resp.ErrorMessage = q.Version, code(err, leader), message(err)
		return resp, nil
	}
	if q.ShareSessionEpoch == openShare && slices.ContainsFunc(q.Topics, acknowledgesAny) {
		return fail(errAcknowledgeFirst)
	}
	group, member := text(q.GroupID), text(q.MemberID)
	sp, err := r.spreadSession(group, member, q.ShareSessionEpoch)
	if err != nil {
		return fail(err)
	}
	p := newShareParts(r, sp, group)
	for _, t := range q.Topics {
		for _, part := range t.Partitions {
			at := share.Place{Group: group, Topic: t.TopicID, Partition: part.Partition}
			p.acknowledges(at, part.AcknowledgementBatches)
			if err := sp.whole.Add(at); err != nil {
				return fail(err)
			}
		}
	}
	for _, t := range q.ForgottenTopicsData {
		for _, part := range t.Partitions {
			sp.whole.Remove(share.Place{Group: group, Topic: t.TopicID, Partition: part})
		}
	}
	for _, at := range sp.whole.Places() {
		p.wants(at)
	}
	r.rights.Settle()
	defer stopwatch.Waiting(ctx)()
	claim, err := r.ownersRoom(ctx, min(max(int(q.MaxBytes), 1), r.conn.s.o.MaxResponse), max(len(p.nodes), 1)*smallAnswer)
	if err != nil {
		return nil, err
	}
	r.answer = claim
	parts := p.fetches(q, int(claim.Held()))
	wait := q.MaxWaitMillis
	if len(p.batch) > 0 {
		wait = 0
	}
	for _, one := range parts {
		one.q.(*kmsg.ShareFetchRequest).MaxWaitMillis = wait
	}
	asked := gathering{r: r, parts: parts}
	if err := asked.run(ctx, min(milliseconds(wait), maxPoll)); err != nil {
		return nil, err
	}
	m := merging{p: p, resp: resp}
	if err := m.takeAll(&asked); err != nil {
		return fail(err)
	}
	return resp, nil
}

// fetches makes the requests of a ShareFetch: to nodes that lead partitions of the session,
// did so, or get acknowledgements. Each may acquire its share of max_records. If there are
// fewer records than nodes, so many nodes are asked, each time others.
func (p *shareParts) fetches(q *kmsg.ShareFetchRequest, bytes int) (parts []portion) {
	for name, at := range p.sp.at {
		if p.place[name] == nil && len(at.has) > 0 && !at.tunnel.over() {
			if !slices.ContainsFunc(p.nodes, func(n broker.Node) bool { return n.Name == name }) {
				p.nodes = append(p.nodes, broker.Node{Name: name})
			}
		}
	}
	records := int(q.MaxRecords)
	each := max(records/max(len(p.nodes), 1), 1)
	for _, to := range p.nodes {
		at := p.sp.with(p.r.conn.relay, to)
		one := *q
		one.Topics, one.ForgottenTopicsData = p.changes(at, to.Name)
		if records > 0 {
			one.MaxRecords = int32(each)
			if len(parts)*each >= records && len(one.Topics)+len(one.ForgottenTopicsData) == 0 && q.ShareSessionEpoch != closeShare {
				continue
			}
		}
		one.MaxBytes = int32(max(min(int(q.MaxBytes), bytes)/len(p.nodes), 1))
		if one.ShareSessionEpoch != closeShare {
			one.ShareSessionEpoch = at.next()
		}
		parts = append(parts, portion{to, &one})
	}
	return parts
}

// changes returns what the session with a node does not have yet, with acknowledgements,
// and what it has too much.
func (p *shareParts) changes(at *shareAt, name string) (topics []kmsg.ShareFetchRequestTopic, forgotten []kmsg.ShareFetchRequestForgottenTopicsData) {
	add := func(place share.Place, batches []kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch) {
		i := slices.IndexFunc(topics, func(t kmsg.ShareFetchRequestTopic) bool { return t.TopicID == place.Topic })
		if i < 0 {
			t := kmsg.NewShareFetchRequestTopic()
			t.TopicID = place.Topic
			i, topics = len(topics), append(topics, t)
		}
		rp := kmsg.NewShareFetchRequestTopicPartition()
		rp.Partition, rp.AcknowledgementBatches = place.Partition, batches
		topics[i].Partitions = append(topics[i].Partitions, rp)
	}
	added := make(map[share.Place]bool)
	if at.epoch != openShare {
		for _, place := range p.acks[name] {
			add(place, p.batch[place])
			added[place] = true
		}
	}
	wanted := make(map[share.Place]bool)
	for _, place := range p.place[name] {
		wanted[place] = true
		if !at.has[place] && !added[place] {
			add(place, nil)
		}
		at.has[place] = true
	}
	for place := range at.has {
		if wanted[place] {
			continue
		}
		delete(at.has, place)
		i := slices.IndexFunc(forgotten, func(t kmsg.ShareFetchRequestForgottenTopicsData) bool { return t.TopicID == place.Topic })
		if i < 0 {
			t := kmsg.NewShareFetchRequestForgottenTopicsData()
			t.TopicID = place.Topic
			i, forgotten = len(forgotten), append(forgotten, t)
		}
		forgotten[i].Partitions = append(forgotten[i].Partitions, place.Partition)
	}
	return topics, forgotten
}

// merging puts the answers of owners together.
type merging struct {
	p    *shareParts
	resp *kmsg.ShareFetchResponse
}

// takeAll takes the answers of all nodes. An error is that of the whole answer.
func (m *merging) takeAll(asked *gathering) error {
	for i, one := range asked.parts {
		if asked.skipped[i] {
			m.p.sp.unopened(one)
		}
		from, _ := asked.resp[i].(*kmsg.ShareFetchResponse)
		if err := m.take(one, from); err != nil {
			return err
		}
	}
	return nil
}

// take takes the answer of a node, nil for none. An error is that of the whole answer.
func (m *merging) take(one portion, from *kmsg.ShareFetchResponse) error {
	name := one.to.Name
	acked := m.p.acks[name]
	if one.q.(*kmsg.ShareFetchRequest).ShareSessionEpoch == openShare && len(acked) > 0 {
		m.fail(acked, 0, kerr.InvalidRecordState) // what the member had there became available with the end of the session
		acked = nil
	}
	switch {
	case from == nil: // the owner is gone, and its session; or it is late with what nobody will see
		m.p.sp.end(m.p.r, name)
		m.fail(m.p.place[name], kerr.NotLeaderForPartition.Code, nil)
		m.fail(acked, 0, kerr.NotLeaderForPartition)
	case from.ErrorCode == kerr.ShareSessionNotFound.Code || from.ErrorCode == kerr.InvalidShareSessionEpoch.Code:
		m.p.sp.end(m.p.r, name) // the next request opens another one
		m.fail(acked, 0, kerr.InvalidRecordState)
	case from.ErrorCode != 0:
		m.p.sp.end(m.p.r, name)
		return coded(from.ErrorCode)
	default:
		m.resp.AcquisitionLockTimeoutMillis = max(m.resp.AcquisitionLockTimeoutMillis, from.AcquisitionLockTimeoutMillis)
		for _, e := range from.NodeEndpoints {
			if len(m.resp.NodeEndpoints) == 0 { // all have the same
				m.resp.NodeEndpoints = append(m.resp.NodeEndpoints, e)
			}
		}
		m.join(from.Topics)
	}
	return nil
}

// join adds answers. A partition may be there already, with errors of another node.
func (m *merging) join(topics []kmsg.ShareFetchResponseTopic) {
	join(&m.resp.Topics, topics, func(t *kmsg.ShareFetchResponseTopic) [16]byte { return t.TopicID },
		func(t *kmsg.ShareFetchResponseTopic) *[]kmsg.ShareFetchResponseTopicPartition { return &t.Partitions })
}

// fail answers partitions with errors.
func (m *merging) fail(places []share.Place, fetch int16, acknowledge *kerr.Error) {
	for _, at := range places {
		t := kmsg.NewShareFetchResponseTopic()
		t.TopicID = at.Topic
		p := kmsg.NewShareFetchResponseTopicPartition()
		p.Partition, p.ErrorCode, p.Records = at.Partition, fetch, []byte{}
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = none, none
		if acknowledge != nil {
			p.AcknowledgeErrorCode = acknowledge.Code
		}
		i := slices.IndexFunc(m.resp.Topics, func(t kmsg.ShareFetchResponseTopic) bool { return t.TopicID == at.Topic })
		if i >= 0 {
			if j := slices.IndexFunc(m.resp.Topics[i].Partitions, func(p kmsg.ShareFetchResponseTopicPartition) bool { return p.Partition == at.Partition }); j >= 0 {
				known := &m.resp.Topics[i].Partitions[j]
				known.ErrorCode, known.AcknowledgeErrorCode = worse(known.ErrorCode, p.ErrorCode), worse(known.AcknowledgeErrorCode, p.AcknowledgeErrorCode)
				continue
			}
		}
		t.Partitions = append(t.Partitions, p)
		m.join([]kmsg.ShareFetchResponseTopic{t})
	}
}

// spreadAcknowledge performs a ShareAcknowledge.
func (r *request) spreadAcknowledge(ctx context.Context, q *kmsg.ShareAcknowledgeRequest) (*kmsg.ShareAcknowledgeResponse, error) {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	resp.Version, r.relayed = q.Version, true
	err := error(share.ErrSessionEpoch)
	var sp *spread
	group := text(q.GroupID)
	if q.ShareSessionEpoch != openShare {
		sp, err = r.spreadSession(group, text(q.MemberID), q.ShareSessionEpoch)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, leader), message(err)
		return resp, nil
	}
	byNode := make(map[string]*kmsg.ShareAcknowledgeRequest)
	var parts []portion
	to := func(n broker.Node) *kmsg.ShareAcknowledgeRequest {
		if one := byNode[n.Name]; one != nil {
			return one
		}
		one := *q
		one.Topics = nil
		byNode[n.Name], parts = &one, append(parts, portion{n, &one})
		return &one
	}
	if q.ShareSessionEpoch == closeShare {
		for name, at := range sp.at {
			if at.epoch != openShare && !at.tunnel.over() {
				to(broker.Node{Name: name})
			}
		}
	}
	for _, t := range q.Topics {
		for _, p := range t.Partitions {
			n := r.conn.relay.leader(t.TopicID, p.Partition)
			if sp.with(r.conn.relay, n).epoch == openShare { // nothing is acquired there
				failAcknowledge(resp, t.TopicID, p.Partition, kerr.InvalidRecordState)
				continue
			}
			one := to(n)
			if i := len(one.Topics) - 1; i < 0 || one.Topics[i].TopicID != t.TopicID {
				rt := kmsg.NewShareAcknowledgeRequestTopic()
				rt.TopicID = t.TopicID
				one.Topics = append(one.Topics, rt)
			}
			rt := &one.Topics[len(one.Topics)-1]
			rt.Partitions = append(rt.Partitions, p)
		}
	}
	for _, one := range parts {
		q := one.q.(*kmsg.ShareAcknowledgeRequest)
		if q.ShareSessionEpoch != closeShare {
			q.ShareSessionEpoch = sp.with(r.conn.relay, one.to).next()
		}
	}
	r.rights.Settle()
	defer stopwatch.Waiting(ctx)()
	asked := gathering{r: r, parts: parts}
	if err := asked.run(ctx, 0); err != nil {
		return nil, err
	}
	for i, one := range parts {
		from, _ := asked.resp[i].(*kmsg.ShareAcknowledgeResponse)
		failed := kerr.NotLeaderForPartition // it is not known what the owner has done
		switch {
		case from != nil && from.ErrorCode == 0:
			resp.AcquisitionLockTimeoutMillis = max(resp.AcquisitionLockTimeoutMillis, from.AcquisitionLockTimeoutMillis)
			joinAcknowledged(resp, from.Topics)
			continue
		case from != nil && from.ErrorCode != kerr.ShareSessionNotFound.Code && from.ErrorCode != kerr.InvalidShareSessionEpoch.Code:
			resp.ErrorCode, resp.ErrorMessage = from.ErrorCode, from.ErrorMessage
		case from != nil:
			failed = kerr.InvalidRecordState // with the session the records were given back
		}
		sp.end(r, one.to.Name)
		for _, t := range one.q.(*kmsg.ShareAcknowledgeRequest).Topics {
			for _, p := range t.Partitions {
				failAcknowledge(resp, t.TopicID, p.Partition, failed)
			}
		}
	}
	return resp, nil
}

// joinAcknowledged adds answers to those that are there.
func joinAcknowledged(resp *kmsg.ShareAcknowledgeResponse, topics []kmsg.ShareAcknowledgeResponseTopic) {
	join(&resp.Topics, topics, func(t *kmsg.ShareAcknowledgeResponseTopic) [16]byte { return t.TopicID },
		func(t *kmsg.ShareAcknowledgeResponseTopic) *[]kmsg.ShareAcknowledgeResponseTopicPartition {
			return &t.Partitions
		})
}

// failAcknowledge answers a partition with an error.
func failAcknowledge(resp *kmsg.ShareAcknowledgeResponse, topic [16]byte, partition int32, err *kerr.Error) {
	t := kmsg.NewShareAcknowledgeResponseTopic()
	t.TopicID = topic
	p := kmsg.NewShareAcknowledgeResponseTopicPartition()
	p.Partition, p.ErrorCode = partition, err.Code
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = none, none
	t.Partitions = append(t.Partitions, p)
	joinAcknowledged(resp, []kmsg.ShareAcknowledgeResponseTopic{t})
}
