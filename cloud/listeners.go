package cloud

import (
	"fmt"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/listener"
)

// openKafka opens the listeners; their addresses are known after it.
func (n *Node) openKafka() ([]listener.Listener, error) {
	var open []listener.Listener
	addresses := make(map[string]string)
	for _, k := range n.o.Kafka {
		if _, twice := addresses[k.Name]; twice {
			return nil, fmt.Errorf("two listeners of --kafka are called %q", k.Name)
		}
		l, err := k.Open(n.o.Log)
		if err != nil {
			return nil, fmt.Errorf("listen on --kafka: %w", err)
		}
		n.closers = append(n.closers, ignoreClosed(l.Close))
		if l.Certificates != nil {
			n.certificates = append(n.certificates, l.Certificates)
		}
		talk := talkKafka
		switch {
		case k.ClientCA != "":
			talk = greetTLS
		case k.TLSCert != "":
			talk = inTLS(talk)
		}
		n.askSelf("kafka listener "+k.Name, l.Addr(), talk)
		open = append(open, l)
		addresses[k.Name] = k.Address(l.Addr(), n.advertised(l.Addr()))
		n.self.Addresses.Add(cluster.Kafka, k.Name, addresses[k.Name])
	}
	return open, nil
}
