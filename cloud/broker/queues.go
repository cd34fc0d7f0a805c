package broker

import (
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/weir"
)

// Queues returns the work queues of the shard that has a vhost. Errors: *NotOwnerError,
// ErrUnavailable. Whether the vhost exists is for the Engine to say.
func (b *Broker) Queues(vhost string) (*queue.Engine, error) {
	s, err := b.at(weir.SliceOfVhost(vhost))
	if err != nil {
		return nil, err
	}
	return s.Queues, nil
}

// AllQueues returns the work queues of the shards that this node serves. Other nodes may
// serve more vhosts.
func (b *Broker) AllQueues() ([]*queue.Engine, error) {
	var all []*queue.Engine
	shards, err := b.owned()
	for _, s := range shards {
		all = append(all, s.Queues)
	}
	return all, err
}
