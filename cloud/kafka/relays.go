package kafka

import (
	"context"
	"errors"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/weir"
)

// relaying is how the requests of one operation are passed on.
type relaying struct {
	// split returns the parts of a request, one for each node that has to perform one. whole
	// is false if it is known that a part is missing.
	split func(ctx context.Context, r *request, q kmsg.Request) (parts []portion, whole bool)
	merge func(into, from kmsg.Response) // nil: there is only one part

	// failed, if set, returns the answer if a part has not been performed. Otherwise this
	// node answers that part, as one that does not own it.
	failed func(r *request, q kmsg.Request) kmsg.Response
}

// relays lists the operations that are passed on. All others are performed by the client's
// node: what it answers from its own view of the cluster, and logins. ShareFetch and
// ShareAcknowledge are in relay_share.go, Produce is in relay_produce.go.
func relays() map[kmsg.Key]relaying {
	all := forOneCoordinator()
	maps.Copy(all, forCoordinators())
	maps.Copy(all, forOwners())
	maps.Copy(all, partitioned())
	for _, key := range controlled() {
		all[key] = relaying{split: func(_ context.Context, r *request, q kmsg.Request) ([]portion, bool) {
			return []portion{{r.conn.relay.ownerOf(r.conn.s.broker.Controller()), q}}, true
		}}
	}
	return all
}

// forOneCoordinator lists the operations that name one group or transactional id.
func forOneCoordinator() map[kmsg.Key]relaying {
	return map[kmsg.Key]relaying{
		kmsg.JoinGroup:              forGroup(func(q *kmsg.JoinGroupRequest) string { return q.Group }),
		kmsg.SyncGroup:              forGroup(func(q *kmsg.SyncGroupRequest) string { return q.Group }),
		kmsg.Heartbeat:              forGroup(func(q *kmsg.HeartbeatRequest) string { return q.Group }),
		kmsg.LeaveGroup:             forGroup(func(q *kmsg.LeaveGroupRequest) string { return q.Group }),
		kmsg.OffsetCommit:           forGroup(func(q *kmsg.OffsetCommitRequest) string { return q.Group }),
		kmsg.OffsetDelete:           forGroup(func(q *kmsg.OffsetDeleteRequest) string { return q.Group }),
		kmsg.TxnOffsetCommit:        forGroup(func(q *kmsg.TxnOffsetCommitRequest) string { return q.Group }),
		kmsg.ConsumerGroupHeartbeat: forGroup(func(q *kmsg.ConsumerGroupHeartbeatRequest) string { return q.Group }),
		kmsg.ShareGroupHeartbeat:    forGroup(func(q *kmsg.ShareGroupHeartbeatRequest) string { return q.GroupID }),

		kmsg.AlterShareGroupOffsets:  forGroup(func(q *kmsg.AlterShareGroupOffsetsRequest) string { return q.GroupID }),
		kmsg.DeleteShareGroupOffsets: forGroup(func(q *kmsg.DeleteShareGroupOffsetsRequest) string { return q.GroupID }),

		kmsg.AddPartitionsToTxn: forTransaction(func(q *kmsg.AddPartitionsToTxnRequest) string { return q.TransactionalID }),
		kmsg.AddOffsetsToTxn:    forTransaction(func(q *kmsg.AddOffsetsToTxnRequest) string { return q.TransactionalID }),
		kmsg.EndTxn:             forTransaction(func(q *kmsg.EndTxnRequest) string { return q.TransactionalID }),
		kmsg.InitProducerID:     {split: splitInitProducer},
	}
}

// forCoordinators lists the operations that may name several groups or transactional ids.
func forCoordinators() map[kmsg.Key]relaying {
	return map[kmsg.Key]relaying{
		kmsg.DescribeGroups: byKey(func(q *kmsg.DescribeGroupsRequest) *[]string { return &q.Groups }, weir.SliceOfGroup,
			func(to, from *kmsg.DescribeGroupsResponse) { to.Groups = append(to.Groups, from.Groups...) }),
		kmsg.DeleteGroups: byKey(func(q *kmsg.DeleteGroupsRequest) *[]string { return &q.Groups }, weir.SliceOfGroup,
			func(to, from *kmsg.DeleteGroupsResponse) { to.Groups = append(to.Groups, from.Groups...) }),
		kmsg.ConsumerGroupDescribe: byKey(func(q *kmsg.ConsumerGroupDescribeRequest) *[]string { return &q.Groups }, weir.SliceOfGroup,
			func(to, from *kmsg.ConsumerGroupDescribeResponse) { to.Groups = append(to.Groups, from.Groups...) }),
		kmsg.ShareGroupDescribe: byKey(func(q *kmsg.ShareGroupDescribeRequest) *[]string { return &q.GroupIDs }, weir.SliceOfGroup,
			func(to, from *kmsg.ShareGroupDescribeResponse) { to.Groups = append(to.Groups, from.Groups...) }),
		kmsg.DescribeShareGroupOffsets: byKey(func(q *kmsg.DescribeShareGroupOffsetsRequest) *[]kmsg.DescribeShareGroupOffsetsRequestGroup {
			return &q.Groups
		},
			func(g kmsg.DescribeShareGroupOffsetsRequestGroup) weir.Slice { return weir.SliceOfGroup(g.GroupID) },
			func(to, from *kmsg.DescribeShareGroupOffsetsResponse) { to.Groups = append(to.Groups, from.Groups...) }),
		kmsg.DescribeTransactions: byKey(func(q *kmsg.DescribeTransactionsRequest) *[]string { return &q.TransactionalIDs }, weir.SliceOfTransaction,
			func(to, from *kmsg.DescribeTransactionsResponse) {
				to.TransactionStates = append(to.TransactionStates, from.TransactionStates...)
			}),
		kmsg.OffsetFetch: offsetFetches(),
	}
}

// forOwners lists the operations that ask every owner for what it has.
func forOwners() map[kmsg.Key]relaying {
	return map[kmsg.Key]relaying{
		kmsg.ListGroups: forAllOwners(func(to, from *kmsg.ListGroupsResponse) {
			to.ErrorCode, to.Groups = worse(to.ErrorCode, from.ErrorCode), append(to.Groups, from.Groups...)
		}, func(resp *kmsg.ListGroupsResponse) { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code }),
		kmsg.ListTransactions: forAllOwners(func(to, from *kmsg.ListTransactionsResponse) {
			to.ErrorCode, to.TransactionStates = worse(to.ErrorCode, from.ErrorCode), append(to.TransactionStates, from.TransactionStates...)
		}, func(resp *kmsg.ListTransactionsResponse) { resp.ErrorCode = kerr.CoordinatorNotAvailable.Code }),
		kmsg.DescribeLogDirs: forAllOwners(mergeLogDirs, func(resp *kmsg.DescribeLogDirsResponse) {
			dir := kmsg.NewDescribeLogDirsResponseDir()
			dir.Dir, dir.ErrorCode, dir.TotalBytes, dir.UsableBytes = bucketDir, kerr.NotLeaderForPartition.Code, unknownDir, unknownDir
			resp.Dirs = append(resp.Dirs, dir)
		}),
	}
}

// worse returns the first error of two codes.
func worse(a, b int16) int16 {
	if a != 0 {
		return a
	}
	return b
}

// forSlice is for requests to one coordinator.
func forSlice[Q kmsg.Request](slice func(Q) weir.Slice) relaying {
	return relaying{split: func(_ context.Context, r *request, q kmsg.Request) ([]portion, bool) {
		return []portion{{r.conn.relay.ownerOf(r.conn.s.broker.Coordinator(slice(q.(Q)))), q}}, true
	}}
}

func forGroup[Q kmsg.Request](group func(Q) string) relaying {
	return forSlice(func(q Q) weir.Slice { return weir.SliceOfGroup(group(q)) })
}

func forTransaction[Q kmsg.Request](id func(Q) string) relaying {
	return forSlice(func(q Q) weir.Slice { return weir.SliceOfTransaction(id(q)) })
}

// splitInitProducer leaves producers without a transactional id to this node: any has ids.
func splitInitProducer(_ context.Context, r *request, q kmsg.Request) ([]portion, bool) {
	id := q.(*kmsg.InitProducerIDRequest).TransactionalID
	if id == nil {
		return nil, true
	}
	return []portion{{r.conn.relay.ownerOf(r.conn.s.broker.Coordinator(weir.SliceOfTransaction(*id))), q}}, true
}

// offsetFetches is for OffsetFetch, which names one group before v8.
func offsetFetches() relaying {
	one := forGroup(func(q *kmsg.OffsetFetchRequest) string { return q.Group })
	many := byKey(func(q *kmsg.OffsetFetchRequest) *[]kmsg.OffsetFetchRequestGroup { return &q.Groups },
		func(g kmsg.OffsetFetchRequestGroup) weir.Slice { return weir.SliceOfGroup(g.Group) },
		func(to, from *kmsg.OffsetFetchResponse) { to.Groups = append(to.Groups, from.Groups...) })
	split := many.split
	many.split = func(ctx context.Context, r *request, q kmsg.Request) ([]portion, bool) {
		if q.GetVersion() < 8 {
			return one.split(ctx, r, q)
		}
		return split(ctx, r, q)
	}
	return many
}

// copied is a pointer to a request of kmsg's, which can be copied.
type copied[S any] interface {
	*S
	kmsg.Request
}

// parted gathers the parts of a request.
type parted[S any, Q copied[S]] struct {
	of    Q
	empty func(Q)
	parts []portion
	at    map[string]Q // by the name of the node
}

// to returns the part for a node.
func (p *parted[S, Q]) to(n broker.Node) Q {
	if q, ok := p.at[n.Name]; ok {
		return q
	}
	if p.at == nil {
		p.at = make(map[string]Q)
	}
	s := *p.of
	q := Q(&s)
	p.empty(q)
	p.at[n.Name], p.parts = q, append(p.parts, portion{n, q})
	return q
}

// byKey is for requests that name several things with coordinators.
func byKey[S any, Q copied[S], K any, R kmsg.Response](keys func(Q) *[]K, slice func(K) weir.Slice, merge func(to, from R)) relaying {
	return relaying{
		split: func(_ context.Context, r *request, q kmsg.Request) ([]portion, bool) {
			p := parted[S, Q]{of: q.(Q), empty: func(q Q) { *keys(q) = nil }}
			for _, k := range *keys(q.(Q)) {
				to := keys(p.to(r.conn.relay.ownerOf(r.conn.s.broker.Coordinator(slice(k)))))
				*to = append(*to, k)
			}
			return p.parts, true
		},
		merge: func(to, from kmsg.Response) { merge(to.(R), from.(R)) },
	}
}

// forAllOwners is for requests to every node that owns a shard with data. Each answers for what it
// owns.
func forAllOwners[R kmsg.Response](merge func(to, from R), failed func(R)) relaying {
	return relaying{
		split: func(_ context.Context, r *request, q kmsg.Request) ([]portion, bool) {
			owners, all := r.conn.s.broker.Owners()
			var parts []portion
			for _, l := range owners {
				parts = append(parts, portion{r.conn.relay.ownerOf(l, true), q})
			}
			return parts, all
		},
		merge: func(to, from kmsg.Response) { merge(to.(R), from.(R)) },
		failed: func(r *request, q kmsg.Request) kmsg.Response {
			resp := q.ResponseKind()
			resp.SetVersion(r.version)
			failed(resp.(R))
			return resp
		},
	}
}

func mergeLogDirs(to, from *kmsg.DescribeLogDirsResponse) {
	to.ErrorCode = worse(to.ErrorCode, from.ErrorCode)
	if len(to.Dirs) == 0 || len(from.Dirs) == 0 {
		return // the client may not see them
	}
	a, b := &to.Dirs[0], &from.Dirs[0]
	a.ErrorCode = worse(a.ErrorCode, b.ErrorCode)
	join(&a.Topics, b.Topics, func(t *kmsg.DescribeLogDirsResponseDirTopic) string { return t.Topic },
		func(t *kmsg.DescribeLogDirsResponseDirTopic) *[]kmsg.DescribeLogDirsResponseDirTopicPartition {
			return &t.Partitions
		})
}

// join adds topics to a list, and partitions to topics that are there.
func join[K comparable, T, P any](to *[]T, from []T, key func(*T) K, parts func(*T) *[]P) {
	at := make(map[K]int, len(*to))
	for i := range *to {
		at[key(&(*to)[i])] = i
	}
	for i := range from {
		if j, there := at[key(&from[i])]; there {
			p := parts(&(*to)[j])
			*p = append(*p, *parts(&from[i])...)
			continue
		}
		*to = append(*to, from[i])
	}
}

// topics says how a request lists topics.
type topics[S any, Q copied[S], T, P any] struct {
	list  func(Q) *[]T
	name  func(*T) (name string, id [16]byte, byID bool)
	parts func(*T) *[]P
	index func(*P) int32
}

// split splits a request by the leaders of its partitions.
func (x topics[S, Q, T, P]) split(ctx context.Context, r *request, q kmsg.Request) ([]portion, bool) {
	p := parted[S, Q]{of: q.(Q), empty: func(q Q) { *x.list(q) = nil }}
	all := *x.list(q.(Q))
	for i := range all {
		t := &all[i]
		topic, unknown := x.topic(ctx, r, t)
		for j := range *x.parts(t) {
			at := &(*x.parts(t))[j]
			to := r.conn.relay.ownerOf(r.conn.s.broker.Controller()) // which knows whether there is such a topic
			if unknown == nil {
				to = r.conn.relay.leader(topic.ID, x.index(at))
			}
			x.add(x.list(p.to(to)), t, *at)
		}
		if len(*x.parts(t)) == 0 {
			list := x.list(p.to(broker.Node{}))
			*list = append(*list, *t)
		}
	}
	return p.parts, true
}

func (x topics[S, Q, T, P]) topic(ctx context.Context, r *request, t *T) (broker.Topic, error) {
	name, id, byID := x.name(t)
	return r.located(ctx, name, id, byID)
}

// add adds a partition to a topic, which is the last of the list or not in it.
func (x topics[S, Q, T, P]) add(list *[]T, t *T, at P) {
	name, id, _ := x.name(t)
	if n := len(*list); n > 0 {
		if lastName, lastID, _ := x.name(&(*list)[n-1]); lastName == name && lastID == id {
			p := x.parts(&(*list)[n-1])
			*p = append(*p, at)
			return
		}
	}
	fresh := *t
	*x.parts(&fresh) = []P{at}
	*list = append(*list, fresh)
}

// located finds a topic in this node's view of the cluster. If it is not there, the view is
// refreshed once: another node may have just created it.
func (r *request) located(ctx context.Context, name string, id [16]byte, byID bool) (broker.Topic, error) {
	find := func() (broker.Topic, error) {
		if byID {
			return r.conn.s.broker.KnownTopicByID(id)
		}
		return r.conn.s.broker.KnownTopic(name)
	}
	t, err := find()
	if s := r.conn.s; !errors.Is(err, broker.ErrUnknownTopic) || r.refreshed || s.o.Owner == nil || s.broker.Copy() == nil {
		return t, err
	}
	r.refreshed = true
	if err := r.aside(ctx, r.conn.s.o.Owner.Refresh); err != nil {
		return broker.Topic{}, err
	}
	return find()
}

func byName(name string) (string, [16]byte, bool) { return name, [16]byte{}, false }

// fetchedTopics says how a Fetch lists topics: by name, or by id in later versions.
func fetchedTopics() topics[kmsg.FetchRequest, *kmsg.FetchRequest, kmsg.FetchRequestTopic, kmsg.FetchRequestTopicPartition] {
	return topics[kmsg.FetchRequest, *kmsg.FetchRequest, kmsg.FetchRequestTopic, kmsg.FetchRequestTopicPartition]{
		func(q *kmsg.FetchRequest) *[]kmsg.FetchRequestTopic { return &q.Topics },
		func(t *kmsg.FetchRequestTopic) (string, [16]byte, bool) { return t.Topic, t.TopicID, t.Topic == "" },
		func(t *kmsg.FetchRequestTopic) *[]kmsg.FetchRequestTopicPartition { return &t.Partitions },
		func(p *kmsg.FetchRequestTopicPartition) int32 { return p.Partition },
	}
}

// partitioned lists the operations that are split by the leaders of partitions.
func partitioned() map[kmsg.Key]relaying {
	offsets := topics[kmsg.ListOffsetsRequest, *kmsg.ListOffsetsRequest, kmsg.ListOffsetsRequestTopic, kmsg.ListOffsetsRequestTopicPartition]{
		func(q *kmsg.ListOffsetsRequest) *[]kmsg.ListOffsetsRequestTopic { return &q.Topics },
		func(t *kmsg.ListOffsetsRequestTopic) (string, [16]byte, bool) { return byName(t.Topic) },
		func(t *kmsg.ListOffsetsRequestTopic) *[]kmsg.ListOffsetsRequestTopicPartition { return &t.Partitions },
		func(p *kmsg.ListOffsetsRequestTopicPartition) int32 { return p.Partition },
	}
	epochs := topics[kmsg.OffsetForLeaderEpochRequest, *kmsg.OffsetForLeaderEpochRequest, kmsg.OffsetForLeaderEpochRequestTopic, kmsg.OffsetForLeaderEpochRequestTopicPartition]{
		func(q *kmsg.OffsetForLeaderEpochRequest) *[]kmsg.OffsetForLeaderEpochRequestTopic { return &q.Topics },
		func(t *kmsg.OffsetForLeaderEpochRequestTopic) (string, [16]byte, bool) { return byName(t.Topic) },
		func(t *kmsg.OffsetForLeaderEpochRequestTopic) *[]kmsg.OffsetForLeaderEpochRequestTopicPartition {
			return &t.Partitions
		},
		func(p *kmsg.OffsetForLeaderEpochRequestTopicPartition) int32 { return p.Partition },
	}
	deletions := topics[kmsg.DeleteRecordsRequest, *kmsg.DeleteRecordsRequest, kmsg.DeleteRecordsRequestTopic, kmsg.DeleteRecordsRequestTopicPartition]{
		func(q *kmsg.DeleteRecordsRequest) *[]kmsg.DeleteRecordsRequestTopic { return &q.Topics },
		func(t *kmsg.DeleteRecordsRequestTopic) (string, [16]byte, bool) { return byName(t.Topic) },
		func(t *kmsg.DeleteRecordsRequestTopic) *[]kmsg.DeleteRecordsRequestTopicPartition {
			return &t.Partitions
		},
		func(p *kmsg.DeleteRecordsRequestTopicPartition) int32 { return p.Partition },
	}
	producers := topics[kmsg.DescribeProducersRequest, *kmsg.DescribeProducersRequest, kmsg.DescribeProducersRequestTopic, int32]{
		func(q *kmsg.DescribeProducersRequest) *[]kmsg.DescribeProducersRequestTopic { return &q.Topics },
		func(t *kmsg.DescribeProducersRequestTopic) (string, [16]byte, bool) { return byName(t.Topic) },
		func(t *kmsg.DescribeProducersRequestTopic) *[]int32 { return &t.Partitions },
		func(p *int32) int32 { return *p },
	}
	return map[kmsg.Key]relaying{
		kmsg.Fetch: {split: fetchedTopics().split},
		kmsg.ListOffsets: {split: offsets.split, merge: func(to, from kmsg.Response) {
			join(&to.(*kmsg.ListOffsetsResponse).Topics, from.(*kmsg.ListOffsetsResponse).Topics, func(t *kmsg.ListOffsetsResponseTopic) string { return t.Topic },
				func(t *kmsg.ListOffsetsResponseTopic) *[]kmsg.ListOffsetsResponseTopicPartition { return &t.Partitions })
		}},
		kmsg.OffsetForLeaderEpoch: {split: epochs.split, merge: func(to, from kmsg.Response) {
			join(&to.(*kmsg.OffsetForLeaderEpochResponse).Topics, from.(*kmsg.OffsetForLeaderEpochResponse).Topics, func(t *kmsg.OffsetForLeaderEpochResponseTopic) string { return t.Topic },
				func(t *kmsg.OffsetForLeaderEpochResponseTopic) *[]kmsg.OffsetForLeaderEpochResponseTopicPartition {
					return &t.Partitions
				})
		}},
		kmsg.DeleteRecords: {split: deletions.split, merge: func(to, from kmsg.Response) {
			join(&to.(*kmsg.DeleteRecordsResponse).Topics, from.(*kmsg.DeleteRecordsResponse).Topics, func(t *kmsg.DeleteRecordsResponseTopic) string { return t.Topic },
				func(t *kmsg.DeleteRecordsResponseTopic) *[]kmsg.DeleteRecordsResponseTopicPartition {
					return &t.Partitions
				})
		}},
		kmsg.DescribeProducers: {split: producers.split, merge: func(to, from kmsg.Response) {
			join(&to.(*kmsg.DescribeProducersResponse).Topics, from.(*kmsg.DescribeProducersResponse).Topics, func(t *kmsg.DescribeProducersResponseTopic) string { return t.Topic },
				func(t *kmsg.DescribeProducersResponseTopic) *[]kmsg.DescribeProducersResponseTopicPartition {
					return &t.Partitions
				})
		}},
	}
}
