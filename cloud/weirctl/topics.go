package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
)

func topicsVerb() verb {
	return verb{
		name: "topics", usage: "[create NAME | delete NAME | grow NAME] [flags]",
		summary: "list topics, or create, delete or grow one",
		notes:   "grow raises the number of partitions to --partitions. Order per key holds within what was sent\nbefore and within what is sent after.",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.Int32Var(&c.partitions, "partitions", -1, "of a new topic (-1: the node's default), or to grow to")
			fs.StringArrayVar(&c.configs, "topic-config", nil, "`name=value` setting of a new topic; may be repeated")
		},
		run: func(ctx context.Context, c *call) error {
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listTopics(ctx)
			case len(c.args) == 2 && c.args[0] == "create":
				return c.createTopic(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "delete":
				return c.del(ctx, "/v1/topics/"+url.PathEscape(c.args[1]))
			case len(c.args) == 2 && c.args[0] == "grow":
				return c.growTopic(ctx, c.args[1])
			}
			return errors.New("topics takes nothing, or create NAME, delete NAME or grow NAME")
		},
	}
}

func (c *call) listTopics(ctx context.Context) error {
	var topics []console.Topic
	if err := c.get(ctx, "/v1/topics", &topics); err != nil {
		return err
	}
	return c.printTopics(topics)
}

func (c *call) printTopics(topics []console.Topic) error {
	if done, err := c.print(topics); done {
		return err
	}
	var rows []table.Row
	for _, t := range topics {
		rows = append(rows, table.Row{t.Name, len(t.Partitions), t.Records, t.Created.Format("2006-01-02 15:04:05"), t.ID})
	}
	printTable(c.stdout, table.Row{"topic", "partitions", "records", "created (UTC)", "id"}, rows)
	return nil
}

func (c *call) createTopic(ctx context.Context, name string) error {
	settings := make(map[string]string)
	for _, kv := range c.configs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return fmt.Errorf("--topic-config %q is not of the form name=value", kv)
		}
		settings[k] = v
	}
	var t console.Topic
	if err := c.post(ctx, "/v1/topics", console.NewTopic{Name: name, Partitions: c.partitions, Configs: settings}, &t); err != nil {
		return err
	}
	return c.printTopics([]console.Topic{t})
}

func (c *call) growTopic(ctx context.Context, name string) error {
	if c.partitions < 1 {
		return errors.New("grow needs --partitions N")
	}
	var t console.Topic
	if err := c.post(ctx, fmt.Sprintf("/v1/topics/%s/partitions?count=%d", url.PathEscape(name), c.partitions), nil, &t); err != nil {
		return err
	}
	return c.printTopics([]console.Topic{t})
}
