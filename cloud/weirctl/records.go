package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/console"
)

// kafkaTimeout is how long consume and produce wait for the Kafka door.
const kafkaTimeout = 10 * time.Second

func kafkaFlag(fs *pflag.FlagSet, c *call, usage string) {
	fs.StringVar(&c.kafka, "kafka", "", usage)
	fs.StringVar(&c.login.user, "kafka-user", "", "`name` to log in to Kafka by, with SCRAM-SHA-512")
	fs.StringVar(&c.login.passwordFile, "kafka-password-file", "", "`file` whose first line is the password")
	fs.StringVar(&c.login.ca, "kafka-ca", "", "`file` of the authority that signed the listener's certificate, or system: speak TLS")
	fs.StringVar(&c.login.certificate, "kafka-cert", "", "`file` with a client certificate and its key")
}

// kafkaClient opens a Kafka client and checks that a broker answers.
func (c *call) kafkaClient(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	if c.kafka == "" {
		var node console.Node
		if err := c.get(ctx, "/v1/node", &node); err != nil {
			return nil, err
		}
		if node.Kafka == "" {
			return nil, errors.New("the owner has no Kafka listener: set --kafka HOST:PORT if Kafka clients reach it in another way")
		}
		c.kafka = node.Kafka
	}
	secure, err := c.login.options()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(append(opts, secure...), kgo.SeedBrokers(c.kafka))...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("reach Kafka at %s: %w", c.kafka, err)
	}
	return client, nil
}

// consumeGroup prints records that it reads through Kafka, as a member of a consumer
// group or through an address of --kafka.
func (c *call) consumeGroup(ctx context.Context, topic string) error {
	if c.read.partition >= 0 || c.read.since != "" || c.read.offset != "start" && c.read.offset != "end" {
		return errors.New("--kafka reads all partitions: it takes no --partition, --since or --offset NUMBER")
	}
	start := kgo.NewOffset().AtStart()
	if c.read.offset == "end" {
		start = kgo.NewOffset().AtEnd()
	}
	if c.kafka == "" {
		if _, err := c.topicToRead(ctx, topic); err != nil { // a Kafka client would wait for a missing topic
			return ignoreInterrupt(ctx, err)
		}
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start), kgo.FetchIsolationLevel(kgo.ReadCommitted())}
	if c.read.group != "" {
		opts = append(opts, kgo.ConsumerGroup(c.read.group))
	}
	client, err := c.kafkaClient(ctx, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(c.stdout)
	for printed := 0; ; {
		poll, cancel := context.WithTimeout(ctx, c.patience())
		// Records beyond the limit stay with the client, and are not committed.
		fetches := client.PollRecords(poll, c.read.max-printed)
		idle := poll.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil && !idle {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for _, r := range fetches.Records() {
			if err := c.printRecord(out, r.Partition, fromKafka(r)); err != nil {
				return err
			}
			printed++
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if c.read.max > 0 && printed >= c.read.max || idle && !c.read.follow {
			return nil
		}
	}
}

func fromKafka(r *kgo.Record) console.Record {
	one := console.Record{Offset: r.Offset, Time: r.Timestamp, Key: r.Key, Value: r.Value, Size: int64(len(r.Value))}
	for _, h := range r.Headers {
		one.Headers = append(one.Headers, console.RecordHeader{Name: h.Key, Value: h.Value})
	}
	return one
}

// patience is how long without a record counts as the end.
func (c *call) patience() time.Duration {
	if c.read.follow {
		return time.Hour
	}
	if c.read.group != "" {
		return 8 * time.Second // a group must first form
	}
	return 2 * time.Second
}

func produceVerb() verb {
	return verb{
		name: "produce", usage: "TOPIC [VALUE] [flags]",
		summary: "write a record, or one for each line of standard input",
		notes: "It ends when the records are durable in the bucket. It writes through --cloud, with a credential that\n" +
			"may operate, or with --kafka through Kafka, as records of more than about 40 kB must be. Records with a key\n" +
			"go to the partition where Kafka's own clients put that key. A topic that does not exist is created.\n\n" +
			"Example:\n  weirctl produce settings '{\"interval\": 10}' --key pump-7",
		names: "topics",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.key, "key", "", "`key` of the records (default: none)")
			kafkaFlag(fs, c, "write through Kafka at this `address`, host:port")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 || len(c.args) > 2 {
				return errors.New("produce takes a topic and a value, or a topic and the values on standard input")
			}
			return c.produce(ctx, c.args[0], c.args[1:])
		},
	}
}

func (c *call) produce(ctx context.Context, topic string, values []string) error {
	var key []byte
	if c.key != "" {
		key = []byte(c.key)
	}
	if c.kafka == "" {
		return c.produceHere(ctx, topic, key, values)
	}
	client, err := c.kafkaClient(ctx, kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(apiTimeout))
	if err != nil {
		return err
	}
	defer client.Close()
	written, failed := 0, error(nil)
	var result kgo.FirstErrPromise
	send := func(value []byte) {
		written++
		client.Produce(ctx, &kgo.Record{Topic: topic, Key: key, Value: value}, result.Promise())
	}
	for _, v := range values {
		send([]byte(v))
	}
	if len(values) == 0 {
		lines := bufio.NewScanner(c.stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			send(append([]byte(nil), lines.Bytes()...))
		}
		failed = lines.Err()
	}
	if err := errors.Join(result.Err(), failed); err != nil {
		return fmt.Errorf("write to %s: %w", topic, err)
	}
	return c.durable(topic, written)
}
