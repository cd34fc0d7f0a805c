package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// soakedClients are further clients for the tests with two nodes.
func soakedClients() []clientKind {
	return []clientKind{
		{"confluent-kafka 2.1.1", pythonClient(confluent("2.1.1"))},
		{"confluent-kafka 2.8.0", pythonClient(confluent("2.8.0"))},
		{"franz-go", func(t *testing.T, servers string, config []string) told { return newFranz(t, servers, config) }},
	}
}

// confluent is an interpreter that has that version of confluent-kafka.
func confluent(version string) func(t *testing.T) string {
	return func(t *testing.T) string {
		dir := t.TempDir()
		run(t, exec.CommandContext(t.Context(), "python3", "-m", "venv", dir))
		run(t, exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "confluent-kafka=="+version))
		return filepath.Join(dir, "bin", "python")
	}
}

// franz is franz-go as a client that is told what to do.
type franz struct {
	t       *testing.T
	opts    []kgo.Opt
	client  *kgo.Client
	readers map[string]*kgo.Client
	stop    context.CancelFunc
	sent    chan int
	refused atomic.Int64
}

func newFranz(t *testing.T, servers string, config []string) *franz {
	f := &franz{t: t, readers: make(map[string]*kgo.Client)}
	f.opts = []kgo.Opt{kgo.SeedBrokers(strings.Split(servers, ",")...), kgo.MetadataMaxAge(time.Second), kgo.MetadataMinAge(100 * time.Millisecond)}
	create, login := true, scram.Auth{}
	for _, pair := range config {
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "allow.auto.create.topics":
			create = value == "true"
		case "sasl.username":
			login.User = value
		case "sasl.password":
			login.Pass = value
		}
	}
	if create {
		f.opts = append(f.opts, kgo.AllowAutoTopicCreation())
	}
	if login.User != "" {
		f.opts = append(f.opts, kgo.SASL(login.AsSha256Mechanism()))
	}
	f.client = f.open()
	return f
}

func (f *franz) open(more ...kgo.Opt) *kgo.Client {
	f.t.Helper()
	client, err := kgo.NewClient(slices.Concat(f.opts, more)...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(client.Close)
	return client
}

func (f *franz) do(order string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	switch order {
	case "topics":
		topics, err := kadm.NewClient(f.open()).ListTopics(ctx)
		f.forget(topics)
		return strings.Join(topics.Names(), ","), err
	case "send", "plain":
		first, err := strconv.Atoi(args[1])
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(args[2])
		for i := range n {
			f.client.Produce(ctx, numbered(args[0], first+i), func(_ *kgo.Record, failed error) { err = errors.Join(err, failed) })
		}
		return args[2], errors.Join(f.client.Flush(ctx), err)
	case "read":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return "", err
		}
		return f.read(ctx, args[0], n)
	case "load":
		return "", f.load(args[0])
	case "stop":
		f.stop()
		sent := <-f.sent
		if err := f.client.Flush(ctx); err != nil || f.refused.Load() > 0 {
			return "", fmt.Errorf("%d refused, %w", f.refused.Load(), err)
		}
		return strconv.Itoa(sent), nil
	}
	return "", fmt.Errorf("franz-go cannot %s", order)
}

// forget has franz-go forget topics that are gone: by itself it waits for the id that it
// knows.
func (f *franz) forget(there kadm.TopicDetails) {
	for topic, reader := range f.readers {
		if !there.Has(topic) {
			f.client.PurgeTopicsFromClient(topic)
			reader.Close()
			delete(f.readers, topic)
		}
	}
}

func numbered(topic string, n int) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(n % 7)), Value: []byte(strconv.Itoa(n))}
}

func (f *franz) read(ctx context.Context, topic string, n int) (string, error) {
	if f.readers[topic] == nil {
		f.readers[topic] = f.open(kgo.ConsumeTopics(topic), kgo.ConsumerGroup("group"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	}
	var values []string
	for len(values) < n {
		fetches := f.readers[topic].PollFetches(ctx)
		if ctx.Err() != nil {
			return "", fmt.Errorf("%d of %d records: %w", len(values), n, errors.Join(ctx.Err(), fetches.Err()))
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return strings.Join(values, ","), nil
}

// load produces a record every few milliseconds until stop.
func (f *franz) load(topic string) error {
	ctx, stop := context.WithCancel(f.t.Context())
	f.stop, f.sent = stop, make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			f.client.Produce(f.t.Context(), numbered(topic, n), func(_ *kgo.Record, err error) {
				if err != nil {
					f.refused.Add(1)
				}
			})
			pause(ctx, 5*time.Millisecond)
		}
		f.sent <- n
	}()
	return nil
}
