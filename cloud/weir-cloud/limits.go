package main

import (
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud"
	"github.com/weirmq/weir/configs"
)

// addLimits adds the flags that limit what clients may take.
func addLimits(fs *pflag.FlagSet, l *cloud.Limits) {
	def := cloud.DefaultLimits()
	fs.IntVar(&l.Connections, "max-connections", def.Connections, "`number` of TCP connections at once, of all listeners; a 32nd is for loopback. Raise it, with the limit of open files, for more clients")
	fs.IntVar(&l.PerListener, "listener-connections", def.PerListener, "`number` of connections at once to one Kafka listener; an eighth may be of clients that have not logged in")
	fs.IntVar(&l.PerAddress, "address-connections", def.PerAddress, "`number` of connections at once from one address to one Kafka listener. Raise it if clients come through a proxy")
	configs.BytesVar(fs, &l.RequestMemory, "request-memory", def.RequestMemory, "`size` of requests of Kafka clients at once. Raise it if weir_budget_waiting_seconds{pool=\"kafka_requests\"} grows")
	fs.IntVar(&l.Gateways, "max-gateways", def.Gateways, "`number` of gateways that are connected at once; others wait")
	fs.IntVar(&l.GatewaySeries, "gateway-series", def.GatewaySeries, "`number` of gateways that have metrics of their own, six series each; the others are counted in weir_gateways only. Lower it if Prometheus has too many series")
	fs.IntVar(&l.Topics, "max-topics", def.Topics, "`number` of topics of the cluster beyond which gateways create none; clients and weirctl do. Messages for others go to topic unrouted")
	fs.IntVar(&l.GatewayTopics, "gateway-topics", def.GatewayTopics, "`number` of topics that are created because one gateway named them, until another node leads; the gateway has a limit of its own, its --max-topics")
	configs.BytesVar(fs, &l.SyncMemory, "sync-memory", def.SyncMemory, "`size` of what gateways send that arrives or is on its way to the bucket. Raise it if weir_budget_waiting_seconds{pool=\"sync\"} grows")
	configs.BytesVar(fs, &l.AnswerMemory, "answer-memory", def.AnswerMemory, "`size` of answers at once that Kafka clients have not taken. Raise it if weir_budget_waiting_seconds{pool=\"kafka_answers\"} grows")
}
