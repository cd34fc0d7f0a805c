package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
)

func topicsVerb() verb {
	return verb{
		name: "topics", usage: "[create NAME | delete NAME | grow NAME | alter NAME] [flags]",
		summary: "list topics, or create, delete, grow or alter one",
		notes:   "alter sets each --topic-config, and takes one with an empty value (retention.ms=) back to the default.\ngrow raises the number of partitions to --partitions. Order per key holds within what was sent\nbefore and within what is sent after.",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.Int32Var(&c.partitions, "partitions", -1, "of a new topic (-1: the node's default), or to grow to")
			fs.StringArrayVar(&c.configs, "topic-config", nil, "`name=value` setting of a new topic, or to alter; may be repeated")
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
			case len(c.args) == 2 && c.args[0] == "alter":
				return c.alterTopic(ctx, c.args[1])
			}
			return errors.New("topics takes nothing, or create NAME, delete NAME, grow NAME or alter NAME")
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

// settings are those of --topic-config.
func (c *call) settings() (map[string]string, error) {
	settings := make(map[string]string)
	for _, kv := range c.configs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("--topic-config %q is not of the form name=value", kv)
		}
		settings[k] = v
	}
	return settings, nil
}

func (c *call) alterTopic(ctx context.Context, name string) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	if len(settings) == 0 {
		return errors.New("alter needs --topic-config name=value")
	}
	var t console.Topic
	if err := c.post(ctx, "/v1/topics/"+url.PathEscape(name)+"/configs", console.TopicConfigs{Configs: settings}, &t); err != nil {
		return err
	}
	if done, err := c.print(t); done {
		return err
	}
	var rows []table.Row
	for _, k := range slices.Sorted(maps.Keys(t.Configs)) {
		rows = append(rows, table.Row{k, t.Configs[k]})
	}
	printTable(c.stdout, table.Row{"setting", "value"}, rows)
	return nil
}

func (c *call) createTopic(ctx context.Context, name string) error {
	settings, err := c.settings()
	if err != nil {
		return err
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
