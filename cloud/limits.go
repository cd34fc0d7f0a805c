package cloud

import (
	"cmp"
	"errors"
	"fmt"
)

// Limits are what clients may use of a node. The zero value of a field means its
// default.
type Limits struct {
	Connections   int   // TCP connections at once, of all doors; 4,096
	PerListener   int   // of those, at one listener; 2,048
	PerAddress    int   // of those, from one address; half of PerListener
	RequestMemory int64 // bytes of requests of Kafka clients that arrive or are being processed; 32 MiB
	AnswerMemory  int64 // bytes of answers to them that are not sent yet; 64 MiB
	Gateways      int   // that are connected at once; 16,384
	GatewaySeries int   // that have metrics of their own; 10,000
	SyncMemory    int64 // bytes of their frames that arrive or that the log has not answered; 128 MiB
	Topics        int   // of the cluster: gateways cannot create more; 10,000
	GatewayTopics int   // created for one gateway since the node leads; 1,000
}

// DefaultLimits returns the limits of a node without settings.
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

// leastMemory is the smallest pool in bytes that holds the largest request and a
// reserve for small ones.
const leastMemory = 24 << 20

// Check returns an error if the limits, none of which is 0, do not fit together.
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
			errs = append(errs, fmt.Errorf("--%s %d is not between 24 MiB and 1 TiB", what, n))
		}
	}
	return errors.Join(errs...)
}
