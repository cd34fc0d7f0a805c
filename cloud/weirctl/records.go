package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/console"
)

// kafkaTimeout is how long consume and produce wait for the Kafka door.
const kafkaTimeout = 10 * time.Second

func kafkaFlag(fs *pflag.FlagSet, c *call) {
	fs.StringVar(&c.kafka, "kafka", "", "Kafka `address`, host:port (default: asked from --cloud)")
	fs.StringVar(&c.login.user, "kafka-user", "", "`name` to log in by, with SCRAM-SHA-512")
	fs.StringVar(&c.login.passwordFile, "kafka-password-file", "", "`file` whose first line is the password")
	fs.StringVar(&c.login.ca, "kafka-ca", "", "`file` of the authority that signed the listener's certificate, or system: speak TLS")
	fs.StringVar(&c.login.certificate, "kafka-cert", "", "`file` with a client certificate and its key")
}

// client opens a Kafka client and makes sure that somebody answers.
func (c *call) kafkaClient(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	if c.kafka == "" {
		var node console.Node
		if err := c.get(ctx, "/v1/node", &node); err != nil {
			return nil, err
		}
		if node.Kafka == "" {
			return nil, errors.New("the owner has no Kafka listener: use --kafka HOST:PORT if it is reached otherwise")
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

func consumeVerb() verb {
	return verb{
		name: "consume", usage: "TOPIC [flags]",
		summary: "print the records of a topic",
		notes:   "Text prints key, a tab and the value; JSON prints a line per record with everything.",
		flags: func(fs *pflag.FlagSet, c *call) {
			kafkaFlag(fs, c)
			fs.StringVar(&c.from, "from", "beginning", "beginning, or end: wait for what comes, like --follow")
			fs.StringVar(&c.group, "group", "", "read as this consumer `group`, and commit")
			fs.IntVar(&c.count, "count", 0, "stop after so many records; 0: do not")
			fs.BoolVar(&c.follow, "follow", false, "wait for more at the end")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return errors.New("consume takes one topic")
			}
			return c.consume(ctx, c.args[0])
		},
	}
}

func (c *call) consume(ctx context.Context, topic string) error {
	start := kgo.NewOffset().AtStart()
	switch c.from {
	case "beginning":
	case "end":
		start = kgo.NewOffset().AtEnd()
		c.follow = true
	default:
		return fmt.Errorf("--from %q is neither beginning nor end", c.from)
	}
	if err := c.mustExist(ctx, topic); err != nil {
		return err
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(start)}
	if c.group != "" {
		opts = append(opts, kgo.ConsumerGroup(c.group))
	}
	client, err := c.kafkaClient(ctx, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(c.stdout)
	for printed := 0; ; {
		poll, cancel := context.WithTimeout(ctx, c.patience())
		// What is not asked for stays with the client, and is not committed.
		fetches := client.PollRecords(poll, c.count-printed)
		idle := poll.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil && !idle {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		for _, r := range fetches.Records() {
			if err := c.printRecord(out, r); err != nil {
				return err
			}
			printed++
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if c.count > 0 && printed >= c.count || idle && !c.follow {
			return nil
		}
	}
}

// mustExist refuses a topic that is not there, where --cloud can tell: a Kafka
// client would wait for it.
func (c *call) mustExist(ctx context.Context, topic string) error {
	if c.kafka != "" || c.follow {
		return nil
	}
	var topics []console.Topic
	if err := c.get(ctx, "/v1/topics", &topics); err != nil {
		return err
	}
	if !slices.ContainsFunc(topics, func(t console.Topic) bool { return t.Name == topic }) {
		return fmt.Errorf("there is no topic %q (--follow waits for it)", topic)
	}
	return nil
}

// patience is how long without a record means the end.
func (c *call) patience() time.Duration {
	if c.follow {
		return time.Hour
	}
	if c.group != "" {
		return 8 * time.Second // a group settles first
	}
	return 2 * time.Second
}

// recordJSON is a record as consume -o json prints it. Keys and values that are
// no text are printed as base64, under another name.
type recordJSON struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Key       *string   `json:"key,omitempty"`
	KeyB64    []byte    `json:"key_base64,omitempty"`
	Value     *string   `json:"value,omitempty"`
	ValueB64  []byte    `json:"value_base64,omitempty"`
	Headers   []header  `json:"headers,omitempty"`
}

type header struct {
	Name     string  `json:"name"`
	Value    *string `json:"value,omitempty"`
	ValueB64 []byte  `json:"value_base64,omitempty"`
}

func textOr(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, nil
	}
	return nil, b
}

func (c *call) printRecord(w *bufio.Writer, r *kgo.Record) error {
	if !c.json {
		_, err := fmt.Fprintf(w, "%s\t%s\n", r.Key, r.Value)
		return err
	}
	j := recordJSON{Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp}
	j.Key, j.KeyB64 = textOr(r.Key)
	j.Value, j.ValueB64 = textOr(r.Value)
	for _, h := range r.Headers {
		v, b := textOr(h.Value)
		j.Headers = append(j.Headers, header{h.Key, v, b})
	}
	return json.NewEncoder(w).Encode(j)
}

func produceVerb() verb {
	return verb{
		name: "produce", usage: "TOPIC [VALUE] [flags]",
		summary: "write a record, or one per line of the standard input",
		notes:   "It returns when the records are durable in the bucket.",
		flags: func(fs *pflag.FlagSet, c *call) {
			kafkaFlag(fs, c)
			fs.StringVar(&c.key, "key", "", "key of the records")
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) < 1 || len(c.args) > 2 {
				return errors.New("produce takes a topic, and a value unless there is input")
			}
			return c.produce(ctx, c.args[0], c.args[1:])
		},
	}
}

func (c *call) produce(ctx context.Context, topic string, values []string) error {
	client, err := c.kafkaClient(ctx, kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(apiTimeout))
	if err != nil {
		return err
	}
	defer client.Close()
	var key []byte
	if c.key != "" {
		key = []byte(c.key)
	}
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
	if done, err := c.print(map[string]any{"topic": topic, "records": written}); done {
		return err
	}
	fmt.Fprintf(c.stdout, "%d records are durable in %s\n", written, topic)
	return nil
}
