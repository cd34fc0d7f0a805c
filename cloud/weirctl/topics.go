package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/configs"
)

func topicsVerb() verb {
	actions := []string{"list", "create", "delete", "grow", "alter"}
	return verb{
		name: "topics", usage: "[NAME | create NAME | delete NAME | grow NAME | alter NAME] [flags]",
		summary: "list topics, show one, or create, delete, grow or alter one",
		notes: "With only a NAME it shows the partitions of that topic, with offsets and sizes, and its settings.\n" +
			"alter changes each setting of --topic-config. An empty value (retention.ms=) sets the default again.\n" +
			"grow raises the number of partitions to --partitions. Then a key may be in another partition than before,\n" +
			"so its records are in order among those from before and among those from after, but not across.\n\n" +
			"Settings whose names end with .ms take times, such as 12h or 7d. Those that end with .bytes take sizes, such\n" +
			"as 10MB (ten million bytes) or 10MiB.\n\n" +
			"Examples:\n  weirctl topics create sensors --partitions 8 --topic-config retention.ms=30d\n" +
			"  weirctl topics sensors\n  weirctl topics alter sensors --topic-config retention.bytes=50GB",
		actions: actions, names: "topics",
		flags: func(fs *pflag.FlagSet, c *call) {
			fs.Int32Var(&c.partitions, "partitions", -1, "`number` of partitions of a new topic, or to grow a topic to (-1: the node's --partitions)")
			fs.StringArrayVar(&c.configs, "topic-config", nil, "setting `name=value` for create and alter; may be repeated")
		},
		run: func(ctx context.Context, c *call) error {
			if c.partitions == 0 || c.partitions < -1 {
				return fmt.Errorf("--partitions %d is less than 1", c.partitions)
			}
			switch {
			case len(c.args) == 0 || len(c.args) == 1 && c.args[0] == "list":
				return c.listTopics(ctx)
			case len(c.args) == 1 && !slices.Contains(actions, c.args[0]):
				return c.showTopic(ctx, c.args[0])
			case len(c.args) == 2 && c.args[0] == "create":
				return c.createTopic(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "delete":
				if err := c.del(ctx, "/v1/topics/"+url.PathEscape(c.args[1])); err != nil {
					return err
				}
				return c.done("topic %s deleted, with all its records", c.args[1])
			case len(c.args) == 2 && c.args[0] == "grow":
				return c.growTopic(ctx, c.args[1])
			case len(c.args) == 2 && c.args[0] == "alter":
				return c.alterTopic(ctx, c.args[1])
			}
			return c.wrong("topics takes no argument, NAME, create NAME, delete NAME, grow NAME or alter NAME", actions)
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
		rows = append(rows, table.Row{t.Name, len(t.Partitions), t.Records, configs.FormatBytes(t.Bytes), perSecond(t.Rate), t.Created.Format("2006-01-02 15:04:05")})
	}
	printTable(c.stdout, table.Row{"topic", "partitions", "records", "size", "records/s", "created (UTC)"}, rows)
	return nil
}

// showTopic prints one topic with its partitions and settings.
func (c *call) showTopic(ctx context.Context, name string) error {
	var t console.Topic
	if err := c.get(ctx, "/v1/topics/"+url.PathEscape(name), &t); err != nil {
		return err
	}
	if done, err := c.print(t); done {
		return err
	}
	fmt.Fprintf(c.stdout, "%s has %d records, %s at rest, and gets %s records/s. Created %s UTC, id %s.\n\n",
		t.Name, t.Records, configs.FormatBytes(t.Bytes), perSecond(t.Rate), t.Created.Format("2006-01-02 15:04:05"), t.ID)
	var rows []table.Row
	for i, p := range t.Partitions {
		rows = append(rows, table.Row{i, p.Start, p.End, p.End - p.Start, configs.FormatBytes(p.Bytes)})
	}
	printTable(c.stdout, table.Row{"partition", "first offset", "next offset", "records", "size"}, rows)
	if len(t.Configs) > 0 {
		fmt.Fprintln(c.stdout)
		c.printSettings(t)
	}
	return nil
}

// printSettings lists the settings of a topic.
func (c *call) printSettings(t console.Topic) {
	var rows []table.Row
	for _, k := range slices.Sorted(maps.Keys(t.Configs)) {
		rows = append(rows, table.Row{k, t.Configs[k], withUnit(k, t.Configs[k])})
	}
	printTable(c.stdout, table.Row{"setting", "value", ""}, rows)
}

// withUnit is the value of a setting with a unit; "" if it has none.
func withUnit(name, value string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case err != nil || n < 0:
	case strings.HasSuffix(name, ".ms") && n > math.MaxInt64/int64(time.Millisecond):
		return "for ever"
	case strings.HasSuffix(name, ".ms"):
		return configs.FormatDuration(time.Duration(n) * time.Millisecond)
	case strings.HasSuffix(name, ".bytes"):
		return configs.FormatBytes(n)
	}
	return ""
}

// plain returns the value of a setting as Kafka writes it: milliseconds and bytes
// without a unit.
func plain(name, value string) (string, error) {
	if _, err := strconv.ParseInt(value, 10, 64); err == nil || value == "" {
		return value, nil
	}
	switch {
	case strings.HasSuffix(name, ".ms"):
		d, err := configs.ParseDuration(value)
		return strconv.FormatInt(d.Milliseconds(), 10), err
	case strings.HasSuffix(name, ".bytes"):
		n, err := configs.ParseBytes(value)
		return strconv.FormatInt(n, 10), err
	}
	return value, nil
}

// settings are those of --topic-config.
func (c *call) settings() (map[string]string, error) {
	settings := make(map[string]string)
	for _, kv := range c.configs {
		k, v, ok := strings.Cut(kv, "=")
		if !ok {
			return nil, fmt.Errorf("--topic-config %q is not of the form name=value", kv)
		}
		value, err := plain(k, v)
		if err != nil {
			return nil, fmt.Errorf("--topic-config %s: %w", k, err)
		}
		settings[k] = value
	}
	return settings, nil
}

func (c *call) alterTopic(ctx context.Context, name string) error {
	settings, err := c.settings()
	if err != nil {
		return err
	}
	if len(settings) == 0 {
		return errors.New("alter needs --topic-config NAME=VALUE")
	}
	var t console.Topic
	if err := c.post(ctx, "/v1/topics/"+url.PathEscape(name)+"/configs", console.TopicConfigs{Configs: settings}, &t); err != nil {
		return err
	}
	if done, err := c.print(t); done {
		return err
	}
	c.printSettings(t)
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
