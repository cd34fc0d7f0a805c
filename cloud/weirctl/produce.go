package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/console"
)

const (
	// maxPosted is how many bytes of records one request to the admin port has, at most.
	maxPosted = 60 << 10
	// postedAtOnce is how many records one request has.
	postedAtOnce = 500
)

// writer writes records of one topic through the admin port.
type writer struct {
	c        *call
	topic    console.Topic
	choose   kgo.TopicPartitioner
	pending  [][]console.NewRecord // by partition
	bytes    []int                 // of those, as JSON
	written  int
	consumed int
}

// produceHere writes values, or the lines of the standard input, through the admin
// port.
func (c *call) produceHere(ctx context.Context, topic string, key []byte, values []string) error {
	t, err := c.topicToWrite(ctx, topic)
	if err != nil {
		return err
	}
	n := len(t.Partitions)
	w := writer{c: c, topic: t, choose: kgo.StickyKeyPartitioner(nil).ForTopic(topic), pending: make([][]console.NewRecord, n), bytes: make([]int, n)}
	for _, v := range values {
		if err := w.add(ctx, key, []byte(v)); err != nil {
			return err
		}
	}
	if len(values) == 0 {
		lines := bufio.NewScanner(c.stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if err := w.add(ctx, key, slices.Clone(lines.Bytes())); err != nil {
				return err
			}
		}
		if err := lines.Err(); err != nil {
			return errors.Join(w.flush(ctx), fmt.Errorf("read standard input: %w", err))
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	return c.durable(topic, w.written)
}

// topicToWrite describes the topic, which is created if it is not there.
func (c *call) topicToWrite(ctx context.Context, topic string) (console.Topic, error) {
	var all []console.Topic
	if err := c.get(ctx, "/v1/topics", &all); err != nil {
		return console.Topic{}, err
	}
	for _, t := range all {
		if t.Name == topic {
			return t, nil
		}
	}
	var made console.Topic
	if err := c.post(ctx, "/v1/topics", console.NewTopic{Name: topic, Partitions: -1}, &made); err != nil {
		return made, err
	}
	fmt.Fprintf(c.stderr, "topic %s created, with %d partitions\n", topic, len(made.Partitions))
	return made, nil
}

// add puts a record beside the others of its partition, and writes them when a request
// is full.
func (w *writer) add(ctx context.Context, key, value []byte) error {
	one := console.NewRecord{Key: key, Value: value}
	encoded, err := json.Marshal(one)
	if err != nil {
		return err
	}
	if len(encoded) > maxPosted {
		return errors.Join(w.flush(ctx), fmt.Errorf("record %d has %d bytes, too many for --http: write it through Kafka, with --kafka HOST:PORT", w.consumed+1, len(key)+len(value)))
	}
	w.consumed++
	p := w.choose.Partition(&kgo.Record{Topic: w.topic.Name, Key: key}, len(w.pending))
	if w.bytes[p]+len(encoded) > maxPosted || len(w.pending[p]) == postedAtOnce {
		if err := w.post(ctx, p); err != nil {
			return err
		}
	}
	w.pending[p] = append(w.pending[p], one)
	w.bytes[p] += len(encoded) + 1
	return nil
}

func (w *writer) post(ctx context.Context, p int) error {
	if len(w.pending[p]) == 0 {
		return nil
	}
	err := w.c.post(ctx, "/v1/topics/"+url.PathEscape(w.topic.Name)+"/records", console.NewRecords{Partition: int32(p), Records: w.pending[p]}, nil)
	if err != nil {
		return fmt.Errorf("write to %s: %w (%d records before are durable)", w.topic.Name, err, w.written)
	}
	w.written += len(w.pending[p])
	w.pending[p], w.bytes[p] = nil, 0
	return nil
}

func (w *writer) flush(ctx context.Context) error {
	for p := range w.pending {
		if err := w.post(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// durable says how many records were written.
func (c *call) durable(topic string, written int) error {
	if done, err := c.print(map[string]any{"topic": topic, "records": written}); done {
		return err
	}
	what := "records are"
	if written == 1 {
		what = "record is"
	}
	_, err := fmt.Fprintf(c.stdout, "%d %s durable in %s\n", written, what, topic)
	return err
}
