// Package peer is the port over which the nodes of a cluster talk to each other:
// HTTP/2 over TLS 1.3, under ALPN "weir-peer/1" and the paths /peer/v1/<verb>. Both
// ends need a certificate of the cluster's CA that is valid for this port only
// (join.SignNode). A node that has neither that nor the CA's key gets its first one with a
// token under ALPN "weir-node-join/1": see nodejoin.go.
//
// Each verb has a file with its server half, its client half and its bodies. A node
// of an earlier version answers 404 to a verb that it does not know (ErrUnknownVerb),
// and the caller goes on without it. Unknown members of a body are ignored.
//
//	ping     GET  /peer/v1/ping      is the node there, and does it own the only shard
//	report   POST /peer/v1/report    what the asking node has, for what the asked one has
//	succession POST /peer/v1/succession  become the next owner of a shard; it waits
//	admin         /peer/v1/admin/…   a request to the admin port that a standby passes on
//	race     GET  /peer/v1/race      look for an invitation to a race in the bucket
//	catalogue GET /peer/v1/catalogue what changes of topics, users, ACLs, quotas, settings and gateways; it waits
//	copy     GET  /peer/v1/copy      the same, whole, for a node of an earlier version
//	topic    POST /peer/v1/topic     create a topic for a client of the node that asks
//	amqp     POST /peer/v1/amqp      a stream for an AMQP connection whose client is at the node that asks
//	producer POST /peer/v1/producer  give a producer id to such a client
//	verify   POST /peer/v1/txn/verify  is a partition or a group part of a transaction, and of which
//	end      POST /peer/v1/txn/end     end a transaction in a shard
//	sessions GET  /peer/v1/sessions  which gateways are connected to the node
//	status   GET  /peer/v1/status    what the node says of itself
//	notices  POST /peer/v1/notices   what the node that asks has noticed of gateways
//	join     POST /peer/v1/join      admit a gateway that has come to the node that asks
//	renew    POST /peer/v1/renew     give such a gateway a new certificate
//	node-join POST /peer/v1/node-join  admit a node without the CA's key that has come to the node that asks
//	node-renew POST /peer/v1/node-renew  give the node that asks, which has not the CA's key, new certificates
//	resolve  POST /peer/v1/resolve   find or create a topic for such a gateway
//	records  POST /peer/v1/records/…  read, append or look for records that the node leads
//	         GET  /peer/v1/records   a stream: which partitions of a shard grow
//	management POST /peer/v1/management  perform a request to the management HTTP API for a client of the node that asks
//	attach   POST /peer/v1/attach    a stream: sessions of gateways at the door, and their batches
package peer
