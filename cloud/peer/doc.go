// Package peer is the port over which the nodes of a cluster talk to each
// other: HTTP/2 over TLS 1.3, with certificates of the cluster's CA that are for
// this port alone (join.SignNode), under ALPN "weir-peer/1" and the paths
// /peer/v1/<verb>. Nobody else is let in, and nobody else is asked.
//
// There is a file for each verb, with its server's and its client's half and the
// bodies. A node of an earlier version answers a verb that it does not know with
// 404 (ErrUnknownVerb): whoever asks does without it for now. A member of a body
// that one end does not know is left out of account.
//
//	ping     GET  /peer/v1/ping      is the node there, and what does it own
//	admin         /peer/v1/admin/…   a request to the admin port that a standby passes on
//	race     GET  /peer/v1/race      look for an invitation to a race in the bucket
//	copy     GET  /peer/v1/copy      what the owner knows of topics, users, ACLs and quotas
//	topic    POST /peer/v1/topic     create a topic for a client of the node that asks
//	producer POST /peer/v1/producer  give a producer id to such a client
package peer
