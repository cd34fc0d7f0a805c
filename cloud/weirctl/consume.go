package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/payload"
	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage/pause"
)

const (
	// followPause is how often consume --follow looks for new records.
	followPause = 300 * time.Millisecond
	// readAtOnce is how many records one request asks for.
	readAtOnce = 500
)

// readFlags say which records consume prints, and how.
type readFlags struct {
	group     string
	partition int32 // -1: all
	offset    string
	since     string
	value     string
	max       int
	follow    bool
}

func consumeVerb() verb {
	return verb{
		name: "consume", usage: "TOPIC [flags]",
		summary: "print the records of a topic",
		notes: "It reads through --cloud, with a credential that may operate, and needs no Kafka listener. It prints one\n" +
			"record on a line, the key, a tab and the value, partition by partition; -o json prints everything that a\n" +
			"record has, exactly. It ends at the end of the topic, or with --follow when it is interrupted. Records of\n" +
			"open and aborted transactions are left out.\n\n" +
			"--value json prints JSON on one line, and CBOR as JSON; hex prints all values in hex; text prints a value as\n" +
			"it is, with control characters written as \\x1b or \\n. By default a value that is text is printed as text,\n" +
			"CBOR as JSON, and everything else in hex.\n\n" +
			"With --group it reads through Kafka as a member of that consumer group, and commits what it has printed.\n\n" +
			"Examples:\n  weirctl consume sensors --since 10m --value json\n  weirctl consume sensors --partition 3 --offset -5\n" +
			"  weirctl consume sensors --offset end --follow",
		names: "topics",
		flags: func(fs *pflag.FlagSet, c *call) {
			f := &c.read
			fs.Int32Var(&f.partition, "partition", -1, "`number` of the partition (-1: all)")
			fs.StringVar(&f.offset, "offset", "start", "`where` to begin in each partition: start, end, an offset, or -N for the last N records")
			fs.StringVar(&f.since, "since", "", "begin with records of this `time`: that long ago, such as 10m or 7d, or a time such as 2026-01-31T12:00:00Z")
			fs.StringVar(&f.value, "value", "auto", "`format` of values: auto, json, text or hex")
			fs.IntVar(&f.max, "max", 0, "`number` of records to print (0: all)")
			fs.BoolVar(&f.follow, "follow", false, "wait for more records at the end; --offset end does so too")
			fs.StringVar(&f.group, "group", "", "read through Kafka as a member of this consumer `group`, and commit offsets")
			kafkaFlag(fs, c, "read through Kafka at this `address`, host:port (default with --group: that of the owner)")
			fs.IntVar(&f.max, "count", 0, "")
			fs.StringVar(&f.offset, "from", "start", "")
			for _, old := range []string{"count", "from"} { // the former names of --max and --offset
				if err := fs.MarkHidden(old); err != nil {
					panic(err) // they are there
				}
			}
		},
		run: func(ctx context.Context, c *call) error {
			if len(c.args) != 1 {
				return errors.New("consume takes one topic")
			}
			if err := c.read.check(); err != nil {
				return err
			}
			if c.read.group != "" || c.kafka != "" {
				return c.consumeGroup(ctx, c.args[0])
			}
			return c.consume(ctx, c.args[0])
		},
	}
}

// checkValue refuses formats that there are not.
func (f *readFlags) checkValue() error {
	if !slices.Contains([]string{"auto", "json", "text", "hex"}, f.value) {
		return fmt.Errorf("--value %q is not auto, json, text or hex", f.value)
	}
	return nil
}

// check refuses values that no flag can have.
func (f *readFlags) check() error {
	if err := f.checkValue(); err != nil {
		return err
	}
	if f.offset == "beginning" {
		f.offset = "start"
	}
	if f.offset == "end" {
		f.follow = true
	}
	if _, err := strconv.ParseInt(f.offset, 10, 64); err != nil && f.offset != "start" && f.offset != "end" {
		return fmt.Errorf("--offset %q is not start, end, a number, or -N for the last N records", f.offset)
	}
	if f.max < 0 {
		return fmt.Errorf("--max %d is negative", f.max)
	}
	if f.since != "" && f.offset != "start" {
		return errors.New("--since and --offset both say where to begin: set one of them")
	}
	if f.group != "" && (f.partition >= 0 || f.since != "" || f.offset != "start" && f.offset != "end") {
		return errors.New("--group reads all partitions from the offsets of the group: it takes no --partition, --since or --offset NUMBER")
	}
	return nil
}

// sinceTime reads --since: a time, or how long ago it was.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	d, err := configs.ParseDuration(text)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("--since %q is neither a time span like 10m or 7d nor a time like 2026-01-31T12:00:00Z", text)
	}
	return now.Add(-d), nil
}

// position is where consume is in one partition.
type position struct {
	partition int32
	next      int64 // offset; or
	since     time.Time
}

// consume prints records that it reads through the admin port.
func (c *call) consume(ctx context.Context, topic string) error {
	t, err := c.topicToRead(ctx, topic)
	if ctx.Err() != nil {
		return nil // interrupted
	}
	if err != nil {
		return err
	}
	positions, err := c.read.positions(t, time.Now())
	if err != nil {
		return err
	}
	out := bufio.NewWriter(c.stdout)
	for printed := 0; ; {
		for i := range positions {
			at := &positions[i]
			for {
				n, more, err := c.readOn(ctx, out, topic, at, printed)
				if printed += n; ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return errors.Join(out.Flush(), err)
				}
				if c.read.max > 0 && printed >= c.read.max {
					return out.Flush()
				}
				if !more {
					break
				}
			}
		}
		if err := out.Flush(); err != nil || !c.read.follow {
			return err
		}
		if positions, err = c.grown(ctx, topic, positions); err != nil || ctx.Err() != nil {
			return ignoreInterrupt(ctx, err)
		}
	}
}

func ignoreInterrupt(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// topicToRead describes the topic. With --follow it waits until it is there.
func (c *call) topicToRead(ctx context.Context, topic string) (console.Topic, error) {
	for {
		var all []console.Topic
		if err := c.get(ctx, "/v1/topics", &all); err != nil {
			return console.Topic{}, err
		}
		for _, t := range all {
			if t.Name == topic {
				return t, nil
			}
		}
		if !c.read.follow {
			return console.Topic{}, fmt.Errorf("there is no topic %q (--follow waits for it)", topic)
		}
		if pause.For(ctx, followPause) != nil {
			return console.Topic{}, ctx.Err()
		}
	}
}

// positions returns where to begin in each requested partition.
func (f *readFlags) positions(t console.Topic, now time.Time) ([]position, error) {
	var since time.Time
	if f.since != "" {
		var err error
		if since, err = sinceTime(f.since, now); err != nil {
			return nil, err
		}
	}
	if int(f.partition) >= len(t.Partitions) {
		return nil, fmt.Errorf("topic %s has partitions 0 to %d", t.Name, len(t.Partitions)-1)
	}
	var all []position
	for i, p := range t.Partitions {
		if f.partition >= 0 && int(f.partition) != i {
			continue
		}
		next := p.Start
		switch n, err := strconv.ParseInt(f.offset, 10, 64); {
		case f.offset == "end":
			next = p.End
		case err == nil && strings.HasPrefix(f.offset, "-"):
			next = max(p.Start, p.End+n)
		case err == nil:
			next = min(max(n, p.Start), p.End)
		}
		all = append(all, position{int32(i), next, since})
	}
	return all, nil
}

// readOn prints the result of one request for a partition; more reports whether another
// request would return records.
func (c *call) readOn(ctx context.Context, w *bufio.Writer, topic string, at *position, printed int) (n int, more bool, err error) {
	q := url.Values{"partition": {strconv.Itoa(int(at.partition))}, "max": {strconv.Itoa(readAtOnce)}}
	if c.read.max > 0 {
		q.Set("max", strconv.Itoa(min(readAtOnce, c.read.max-printed)))
	}
	if at.since.IsZero() {
		q.Set("offset", strconv.FormatInt(at.next, 10))
	} else {
		q.Set("since", at.since.UTC().Format(time.RFC3339Nano))
	}
	var page console.Records
	if err := c.get(ctx, "/v1/topics/"+url.PathEscape(topic)+"/records?"+q.Encode(), &page); err != nil {
		return 0, false, err
	}
	for _, r := range page.Records {
		if err := c.printRecord(w, at.partition, r); err != nil {
			return n, false, err
		}
		n++
	}
	more = page.Next < page.End && (len(page.Records) > 0 || page.Next > at.next)
	at.next, at.since = page.Next, time.Time{}
	return n, more, w.Flush()
}

// grown waits until a partition may have new records, and adds new partitions.
func (c *call) grown(ctx context.Context, topic string, positions []position) ([]position, error) {
	for pause.For(ctx, followPause) == nil {
		var t console.Topic
		if err := c.get(ctx, "/v1/topics/"+url.PathEscape(topic), &t); err != nil {
			return nil, err
		}
		grown := false
		if c.read.partition < 0 {
			for i := len(positions); i < len(t.Partitions); i++ {
				positions = append(positions, position{partition: int32(i), next: t.Partitions[i].Start})
			}
		}
		for _, at := range positions {
			grown = grown || int(at.partition) < len(t.Partitions) && t.Partitions[at.partition].End > at.next
		}
		if grown {
			return positions, nil
		}
	}
	return positions, nil
}

// recordJSON is a record as consume -o json prints it. Keys and values that are not
// text are printed as base64, under another name.
type recordJSON struct {
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Key       *string   `json:"key,omitempty"`
	KeyB64    []byte    `json:"key_base64,omitempty"`
	Value     *string   `json:"value,omitempty"`
	ValueB64  []byte    `json:"value_base64,omitempty"`
	Cut       bool      `json:"value_cut,omitempty"` // it is longer than what the node sends
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

func (c *call) printRecord(w *bufio.Writer, partition int32, r console.Record) error {
	if !c.json {
		_, err := fmt.Fprintf(w, "%s\t%s\n", shownBytes(r.Key, "auto"), shownBytes(r.Value, c.read.value))
		return err
	}
	j := recordJSON{Partition: partition, Offset: r.Offset, Time: r.Time, Cut: r.Size > int64(len(r.Value))}
	j.Key, j.KeyB64 = textOr(r.Key)
	j.Value, j.ValueB64 = textOr(r.Value)
	for _, h := range r.Headers {
		v, b := textOr(h.Value)
		j.Headers = append(j.Headers, header{h.Name, v, b})
	}
	return json.NewEncoder(w).Encode(j)
}

// shownBytes writes bytes on one line.
func shownBytes(p []byte, how string) string {
	if how == "hex" {
		return hex.EncodeToString(p)
	}
	text := how == "text" || utf8.Valid(p) && (payload.Readable(p) || how == "json")
	if how == "json" || !text {
		if line, ok := payload.Compact(p); ok {
			return escaped(line)
		}
	}
	if !text {
		return hex.EncodeToString(p)
	}
	return escaped(string(p))
}

// escaped writes control characters, and bytes that are not UTF-8, as Go does.
// Otherwise a device could control the reader's terminal, or turn one line into two.
func escaped(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var out strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError: // perhaps a byte that is not a character
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				fmt.Fprintf(&out, `\x%02x`, s[i])
				continue
			}
			out.WriteRune(r)
		case unicode.IsControl(r):
			out.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
