package main

import (
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/configs"
)

// addLimits adds the flags that limit what clients may take.
func addLimits(fs *pflag.FlagSet, l *cloud.Limits) {
	def := cloud.DefaultLimits()
	fs.IntVar(&l.Connections, "max-connections", def.Connections, "`number` of TCP connections at once, of all listeners together; a 32nd of them is kept for loopback. Raise it, and the limit of open files, for more clients")
	fs.IntVar(&l.PerListener, "listener-connections", def.PerListener, "`number` of connections at once to one Kafka listener; at most an eighth of them may be clients that have not logged in. Raise it for more clients")
	fs.IntVar(&l.PerAddress, "address-connections", def.PerAddress, "`number` of connections at once from one address to one Kafka listener. Raise it if clients come through a proxy")
	configs.BytesVar(fs, &l.RequestMemory, "request-memory", def.RequestMemory, "`size` of memory for requests of Kafka clients. Raise it if weir_budget_waiting_seconds{pool=\"kafka_requests\"} grows")
	fs.IntVar(&l.Gateways, "max-gateways", def.Gateways, "`number` of gateways that may be connected at once; others wait. Raise it for a larger fleet")
	fs.IntVar(&l.GatewaySeries, "gateway-series", def.GatewaySeries, "`number` of gateways that have metrics of their own, six series each; the others are only counted in weir_gateways. Lower it if Prometheus has too many series")
	fs.IntVar(&l.Topics, "max-topics", def.Topics, "`number` of topics of the cluster from which on gateways create no more; Kafka clients and weirctl still do. Messages for other topics go to topic unrouted")
	fs.IntVar(&l.GatewayTopics, "gateway-topics", def.GatewayTopics, "`number` of topics that one gateway may cause to be created, until another node takes over. The gateway has its own limit, its --max-topics")
	configs.BytesVar(fs, &l.SyncMemory, "sync-memory", def.SyncMemory, "`size` of memory for what gateways send, from its arrival until it is in the bucket. Raise it if weir_budget_waiting_seconds{pool=\"sync\"} grows")
	configs.BytesVar(fs, &l.AnswerMemory, "answer-memory", def.AnswerMemory, "`size` of memory for answers that Kafka clients have not read yet. Raise it if weir_budget_waiting_seconds{pool=\"kafka_answers\"} grows")
}
