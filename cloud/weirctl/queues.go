package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/configs"
)

// queueFlags select what a change to a queue is about.
type queueFlags struct {
	toQueue, toExchange string
	ifEmpty, ifUnused   bool
}

func queuesVerb() verb {
	actions := []string{"list", "show", "peek", "purge", "move", "replay", "delete"}
	return verb{
		actions: actions, names: "queues",
		name: "queues", usage: "[list | show QUEUE | peek QUEUE | purge QUEUE | move QUEUE | replay QUEUE | delete QUEUE] [flags]",
		summary: "list work queues, look into one, empty it, move its messages or delete it",
		notes: "A message that is ready waits for a consumer; an unsettled one has been delivered, and its consumer has not said\n" +
			"yet what becomes of it. These verbs leave unsettled messages alone, but delete, which deletes them too.\n\n" +
			"peek shows messages and leaves them where they are. move publishes them to an exchange or a queue and takes\n" +
			"them out of this one. replay does the same with dead letters: each goes back to the exchange, and has again\n" +
			"the routing key, that it had before it died first. A message that no queue takes stays, and ends a move.\n\n" +
			"Queues that are exclusive to a connection are listed; only that connection can use them.\n\n" +
			"Examples:\n" +
			"  weirctl queues list --vhost plant\n" +
			"  weirctl queues peek orders.dead --max 5\n" +
			"  weirctl queues replay orders.dead\n" +
			"  weirctl queues move orders --to-queue orders.slow --max 1000\n" +
			"  weirctl queues move orders --to-exchange amq.topic --key orders.again",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.StringVar(&c.permission.vhost, "vhost", "/", "`name` of the vhost; list shows all vhosts without it")
			fs.StringVar(&c.queue.toQueue, "to-queue", "", "move: `name` of the queue that gets the messages")
			fs.StringVar(&c.queue.toExchange, "to-exchange", "", "move: `name` of the exchange to publish the messages to")
			fs.StringVar(&c.key, "key", "", "move: routing `key` for --to-exchange; without it the messages keep their own")
			fs.IntVar(&c.read.max, "max", 0, "peek, move, replay: `number` of messages at most (peek: 100 unless set; the others: all)")
			fs.BoolVar(&c.queue.ifEmpty, "if-empty", false, "delete: only if nothing is in the queue")
			fs.BoolVar(&c.queue.ifUnused, "if-unused", false, "delete: only if the queue has no consumers")
			fs.StringVar(&c.read.value, "value", "auto", "peek: `format` of bodies: auto, json, text or hex")
		},
		run: func(ctx context.Context, c *call) error {
			if c.read.max < 0 {
				return errors.New("--max must not be negative")
			}
			if len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list" {
				return c.listQueues(ctx)
			}
			if len(c.args) == 2 {
				switch action, name := c.args[0], c.args[1]; action {
				case "show":
					return c.showQueue(ctx, name)
				case "peek":
					return c.peekQueue(ctx, name)
				case "purge", "replay":
					return c.changeQueue(ctx, action, console.QueueChange{Queue: name})
				case "move":
					return c.moveMessages(ctx, name)
				case "delete":
					return c.deleteQueue(ctx, name)
				}
			}
			return c.wrong("queues takes list, or show, peek, purge, move, replay or delete and a QUEUE", actions)
		},
	}
}

func (c *call) listQueues(ctx context.Context) error {
	path := "/v1/queues"
	if c.changed("vhost") {
		path += "?vhost=" + url.QueryEscape(c.permission.vhost)
	}
	var all []console.Queue
	if err := c.get(ctx, path, &all); err != nil {
		return err
	}
	if done, err := c.print(all); done {
		return err
	}
	var rows []table.Row
	for _, q := range all {
		kind := "queue"
		if q.Stream {
			kind = "stream"
		}
		rows = append(rows, table.Row{q.Vhost, q.Name, kind, q.Ready, q.Unsettled, q.Consumers, configs.FormatBytes(q.Bytes)})
	}
	printTable(c.stdout, table.Row{"vhost", "queue", "type", "ready", "unsettled", "consumers", "size"}, rows)
	return nil
}

// queuePath returns the path of a request about a queue.
func (c *call) queuePath(path, name string, more ...string) string {
	query := url.Values{"vhost": {c.permission.vhost}, "name": {name}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	return path + "?" + query.Encode()
}

func (c *call) showQueue(ctx context.Context, name string) error {
	var all []console.Queue
	if err := c.get(ctx, c.queuePath("/v1/queues", name), &all); err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("the node answered with %d queues", len(all))
	}
	q := all[0]
	if done, err := c.print(q); done {
		return err
	}
	if q.Stream {
		fmt.Fprintf(c.stdout, "%s in vhost %s is a stream queue: topic %s has %d messages, %s, and %d consumers read it.\n\n",
			q.Name, q.Vhost, q.Name, q.Ready, configs.FormatBytes(q.Bytes), q.Consumers)
		printTable(c.stdout, table.Row{"setting", "value"}, queueRows(q.Settings))
		return nil
	}
	fmt.Fprintf(c.stdout, "%s in vhost %s has %d messages ready and %d unsettled, %s together, and %d consumers.\n\n",
		q.Name, q.Vhost, q.Ready, q.Unsettled, configs.FormatBytes(q.Bytes), q.Consumers)
	printTable(c.stdout, table.Row{"setting", "value"}, queueRows(q.Settings))
	return nil
}

// queueRows lists the settings that have an effect.
func queueRows(s console.QueueSettings) []table.Row {
	rows := []table.Row{{"durable", s.Durable}, {"auto-delete", s.AutoDelete}, {"exclusive", s.Exclusive}}
	for _, n := range []struct {
		name  string
		value *int64
	}{{"message-ttl, ms", s.TTL}, {"max-length", s.MaxLength}, {"max-length-bytes", s.MaxBytes}, {"delivery-limit", s.DeliveryLimit}} {
		if n.value != nil {
			rows = append(rows, table.Row{n.name, *n.value})
		}
	}
	if s.Expires > 0 {
		rows = append(rows, table.Row{"expires, ms", s.Expires})
	}
	if s.Overflow != "" {
		rows = append(rows, table.Row{"overflow", s.Overflow})
	}
	if s.DeadLetter != nil {
		rows = append(rows, table.Row{"dead-letter-exchange", "'" + *s.DeadLetter + "'"})
	}
	if s.DeadLetterKey != nil {
		rows = append(rows, table.Row{"dead-letter-routing-key", "'" + *s.DeadLetterKey + "'"})
	}
	if s.MaxPriority > 0 {
		rows = append(rows, table.Row{"max-priority", s.MaxPriority})
	}
	if s.SingleActive {
		rows = append(rows, table.Row{"single-active-consumer", true})
	}
	return rows
}

// messageJSON is a message as peek -o json prints it. A body that is not text is in
// body_base64.
type messageJSON struct {
	console.Message
	Body    *string `json:"body,omitempty"`
	BodyB64 []byte  `json:"body_base64,omitempty"`
	Cut     bool    `json:"body_cut,omitempty"` // it is longer than what the node sends
}

func (c *call) peekQueue(ctx context.Context, name string) error {
	if err := c.read.checkValue(); err != nil {
		return err
	}
	var more []string
	if c.read.max > 0 {
		more = []string{"limit", strconv.Itoa(c.read.max)}
	}
	var all []console.Message
	if err := c.get(ctx, c.queuePath("/v1/queues/messages", name, more...), &all); err != nil {
		return err
	}
	if c.json {
		shown := []messageJSON{}
		for _, m := range all {
			j := messageJSON{Message: m, Cut: m.Size > len(m.Body)}
			j.Body, j.BodyB64 = textOr(m.Body)
			shown = append(shown, j)
		}
		_, err := c.print(shown)
		return err
	}
	out := bufio.NewWriter(c.stdout)
	for _, m := range all {
		properties, err := json.Marshal(m.Properties)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d\t%s\t%s\t%d deliveries\t%s\t%s\n", m.ID, m.Exchange, m.Key, m.Deliveries, properties, shownBytes(m.Body, c.read.value))
	}
	return out.Flush()
}

// changeQueue purges a queue, or moves or replays what is in it.
func (c *call) changeQueue(ctx context.Context, action string, change console.QueueChange) error {
	change.Vhost, change.Most = c.permission.vhost, c.read.max
	if action == "purge" && c.read.max > 0 {
		return errors.New("purge removes all messages that are ready: it takes no --max")
	}
	var answer console.Changed
	if err := c.post(ctx, "/v1/queues/"+action, change, &answer); err != nil {
		return err
	}
	if done, err := c.print(answer); done {
		return err
	}
	past := map[string]string{"purge": "purged", "move": "moved", "replay": "replayed"}
	return c.done("%d messages of queue %s %s", answer.Messages, change.Queue, past[action])
}

func (c *call) moveMessages(ctx context.Context, name string) error {
	f := c.queue
	switch {
	case (f.toQueue == "") == (f.toExchange == ""):
		return errors.New("move needs either --to-queue or --to-exchange")
	case f.toQueue != "" && c.key != "":
		return errors.New("--key goes with --to-exchange")
	case f.toQueue == name:
		return errors.New("--to-queue is the queue itself")
	}
	change := console.QueueChange{Queue: name, Exchange: f.toExchange, Key: c.key}
	if f.toQueue != "" {
		change.Key = f.toQueue
	}
	return c.changeQueue(ctx, "move", change)
}

func (c *call) deleteQueue(ctx context.Context, name string) error {
	path := c.queuePath("/v1/queues", name, "if-empty", strconv.FormatBool(c.queue.ifEmpty), "if-unused", strconv.FormatBool(c.queue.ifUnused))
	if err := c.del(ctx, path); err != nil {
		return err
	}
	return c.done("queue %s deleted from vhost %s, with its messages", name, c.permission.vhost)
}
