// Command sarama is the round of every client with IBM/sarama: see ../README.md.
// Usage: sarama HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	topic   = "sarama"
	records = 1000
)

func main() {
	if err := round(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "sarama:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

func round(server string) error {
	admin, err := sarama.NewClusterAdmin([]string{server}, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	for _, step := range []struct {
		name string
		do   func(string, sarama.ClusterAdmin) error
	}{{"create", create}, {"produce", produce}, {"consume", consume}, {"transact", transact}, {"clean up", cleanUp}} {
		if err := step.do(server, admin); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V4_0_0_0
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	return c
}

func create(_ string, admin sarama.ClusterAdmin) error {
	hour := "3600000"
	detail := &sarama.TopicDetail{NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &hour}}
	if err := admin.CreateTopic(topic, detail, false); err != nil {
		return err
	}
	if err := admin.CreateTopic(topic, detail, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("second creation: %v", err)
	}
	if err := admin.CreatePartitions(topic, 4, nil, false); err != nil {
		return err
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name == "retention.ms" && e.Value != hour || e.Name == "cleanup.policy" && !e.Default {
			return fmt.Errorf("setting %s is %q (default: %v)", e.Name, e.Value, e.Default)
		}
	}
	if len(entries) < 10 {
		return fmt.Errorf("%d settings are described", len(entries))
	}
	return nil
}

func produce(server string, _ sarama.ClusterAdmin) error {
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
	for i, codec := range codecs {
		c := config()
		c.Producer.Compression = codec
		producer, err := sarama.NewSyncProducer([]string{server}, c)
		if err != nil {
			return err
		}
		var messages []*sarama.ProducerMessage
		for n := i * records / len(codecs); n < (i+1)*records/len(codecs); n++ {
			messages = append(messages, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("key-", n%50)), Value: sarama.StringEncoder(fmt.Sprint("value-", n))})
		}
		if err := errors.Join(producer.SendMessages(messages), producer.Close()); err != nil {
			return err
		}
	}
	return nil
}

// member counts what the members of a group see.
type member struct {
	mu   sync.Mutex
	seen map[string]bool
	all  chan struct{}
}

func (*member) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*member) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for message := range c.Messages() {
		s.MarkMessage(message, "")
		m.mu.Lock()
		m.seen[fmt.Sprint(message.Partition, "/", message.Offset)] = true
		if len(m.seen) == records {
			select {
			case <-m.all:
			default:
				close(m.all)
			}
		}
		m.mu.Unlock()
	}
	return nil
}

func consume(server string, admin sarama.ClusterAdmin) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	m := &member{seen: make(map[string]bool), all: make(chan struct{})}
	var members sync.WaitGroup
	errs := make(chan error, 2)
	for range 2 {
		group, err := sarama.NewConsumerGroup([]string{server}, topic, config())
		if err != nil {
			return err
		}
		members.Go(func() {
			for ctx.Err() == nil {
				if err := group.Consume(ctx, []string{topic}, m); err != nil && ctx.Err() == nil {
					errs <- err
					break
				}
			}
			_ = group.Close() // it commits what was marked
		})
	}
	select {
	case <-m.all:
	case err := <-errs:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%d records", len(m.seen))
	}
	cancel()
	members.Wait()
	offsets, err := admin.ListConsumerGroupOffsets(topic, nil)
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, block := range offsets.Blocks[topic] {
		sum += max(block.Offset, 0)
	}
	if sum != records {
		return fmt.Errorf("committed offsets add up to %d", sum)
	}
	groups, err := admin.ListConsumerGroups()
	if _, listed := groups[topic]; err != nil || !listed {
		return fmt.Errorf("groups are %v: %v", groups, err)
	}
	return nil
}

func transact(server string, admin sarama.ClusterAdmin) error {
	const name = topic + "-tx"
	if err := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
		return err
	}
	c := config()
	c.Producer.Transaction.ID = topic + "-1"
	producer, err := sarama.NewSyncProducer([]string{server}, c)
	if err != nil {
		return err
	}
	for i := range 6 {
		word, end := "kept", producer.CommitTxn
		if i%2 == 1 {
			word, end = "gone", producer.AbortTxn
		}
		if err := producer.BeginTxn(); err != nil {
			return err
		}
		for n := range 10 {
			if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(fmt.Sprintf("%s-%d-%d", word, i, n))}); err != nil {
				return err
			}
		}
		if err := end(); err != nil {
			return err
		}
	}
	if err := producer.Close(); err != nil {
		return err
	}
	return readCommitted(server, name, 30)
}

// readCommitted reads so many records and expects none that was aborted.
func readCommitted(server, name string, want int) error {
	c := config()
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumer([]string{server}, c)
	if err != nil {
		return err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(name, 0, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	for n := range want {
		select {
		case message := <-partition.Messages():
			if !strings.HasPrefix(string(message.Value), "kept-") {
				return fmt.Errorf("read_committed gave %q", message.Value)
			}
		case <-time.After(time.Minute):
			return fmt.Errorf("%d committed records of %d", n, want)
		}
	}
	return nil
}

func cleanUp(_ string, admin sarama.ClusterAdmin) error {
	return errors.Join(admin.DeleteConsumerGroup(topic), admin.DeleteTopic(topic), admin.DeleteTopic(topic+"-tx"))
}
