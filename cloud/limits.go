package cloud

import (
	"cmp"
	"errors"
	"fmt"
)

// Limits are what clients may take of a node. The zero value of a field means its
// default.
type Limits struct {
	Connections   int   // TCP connections at once, of all doors; 4,096
	PerListener   int   // of those, at one listener; 2,048
	PerAddress    int   // of those, from one address; half of PerListener
	RequestMemory int64 // bytes of requests of Kafka clients that are worked on, or arrive; 32 MiB
	AnswerMemory  int64 // bytes of answers to them that they have not taken; 64 MiB
	Gateways      int   // that are connected at once; 16,384
	GatewaySeries int   // that have metrics of their own; 10,000
	SyncMemory    int64 // bytes of their frames that arrive, or are on their way to the log; 128 MiB
	Topics        int   // of the cluster: gateways create none beyond them; 10,000
	GatewayTopics int   // created for one gateway since the node leads; 1,000
}

// DefaultLimits are those of a node that is told nothing else.
func DefaultLimits() Limits {
	return Limits{Connections: 4_096, PerListener: 2_048, PerAddress: 1_024, RequestMemory: 32 << 20, AnswerMemory: 64 << 20,
		Gateways: 16 << 10, GatewaySeries: 10_000, SyncMemory: 128 << 20, Topics: 10_000, GatewayTopics: 1_000}
}

// orDefault fills in the numbers of topics and of gateways with metrics.
func (l Limits) orDefault() Limits {
	l.Topics = cmp.Or(l.Topics, DefaultLimits().Topics)
	l.GatewayTopics = cmp.Or(l.GatewayTopics, DefaultLimits().GatewayTopics)
	l.GatewaySeries = cmp.Or(l.GatewaySeries, DefaultLimits().GatewaySeries)
	return l
}

// leastMemory is how many bytes a pool must have to hold the largest request, with a
// reserve for small ones.
const leastMemory = 24 << 20

// Check returns what is wrong with limits of which none is 0.
func (l Limits) Check() error {
	var errs []error
	for what, n := range map[string]int{"max-connections": l.Connections, "listener-connections": l.PerListener, "address-connections": l.PerAddress, "max-gateways": l.Gateways, "gateway-series": l.GatewaySeries,
		"max-topics": l.Topics, "gateway-topics": l.GatewayTopics} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("--%s %d is less than 1", what, n))
		}
	}
	if l.PerListener > l.Connections {
		errs = append(errs, fmt.Errorf("--listener-connections %d is more than --max-connections %d", l.PerListener, l.Connections))
	}
	if l.PerAddress > l.PerListener {
		errs = append(errs, fmt.Errorf("--address-connections %d is more than --listener-connections %d", l.PerAddress, l.PerListener))
	}
	for what, n := range map[string]int64{"request-memory": l.RequestMemory, "answer-memory": l.AnswerMemory, "sync-memory": l.SyncMemory} {
		if n < leastMemory || n > 1<<40 {
			errs = append(errs, fmt.Errorf("--%s %d is not in %d..%d", what, n, leastMemory, int64(1)<<40))
		}
	}
	return errors.Join(errs...)
}
