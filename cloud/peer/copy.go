package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
)

const copyPath = "/peer/v1/copy"

// Bounds of a copy.
const (
	MaxTopics  = 10_000
	maxCopy    = 32 << 20         // bytes of the answer
	pieceSize  = 500              // topics in one line of the answer
	copyTime   = 30 * time.Second // for the other node to read the answer
	maxRefusal = 1 << 10          // bytes of the text of a refusal
)

// copyVersion is the version of the body. A node does not use a copy of a later
// version.
const copyVersion = 1

// Errors of a copy, to be tested with errors.Is.
var (
	// ErrNoCopy means that the node cannot give a copy now: it does not own the shard,
	// or is not sure that it does.
	ErrNoCopy = errors.New("node does not lead, or is not sure that it does")
	// ErrTooLarge means that the copy would exceed its limits.
	ErrTooLarge = errors.New("too much for a copy")
)

// Copy is what the owner of the shard sends to a standby.
type Copy struct {
	// Tag names this state. A node that has a copy with it gets only what has changed
	// since.
	Tag     string
	Epoch   int32  // leader epoch
	Cluster string // id
	Offsets bool   // the offsets topic exists

	// The fields below are nil if they have not changed since the tag in the question.
	Topics   []state.Topic
	Users    []byte // JSON: see auth.Auth.Copy
	Quotas   []byte // JSON: see quota.Quotas.Copy
	Settings []byte // JSON: see settings.Settings.Copy
}

// copyLine is one line of the body. The first has version, tag and so on. Pieces of
// the topics follow, then the users, the quotas, the settings, and end. A part that
// has not changed is left out. If all topics were deleted, there is one empty piece.
type copyLine struct {
	Version  int             `json:"version,omitempty"`
	Tag      string          `json:"tag,omitempty"`
	Epoch    int32           `json:"epoch,omitempty"`
	Cluster  string          `json:"cluster,omitempty"`
	Offsets  bool            `json:"offsets,omitempty"`
	Topics   []copyTopic     `json:"topics,omitzero"`
	Users    json.RawMessage `json:"users,omitempty"`
	Quotas   json.RawMessage `json:"quotas,omitempty"`
	Settings json.RawMessage `json:"settings,omitempty"`
	End      bool            `json:"end,omitempty"`
}

// copyTopic is a topic in the body.
type copyTopic struct {
	ID         string            `json:"id"` // hex
	Name       string            `json:"name"`
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	Created    int64             `json:"created,omitempty"` // milliseconds since 1970
}

func copiedTopic(t state.Topic) copyTopic {
	return copyTopic{ID: t.ID.String(), Name: t.Name, Partitions: t.Partitions, Configs: t.Configs, Created: t.Created}
}

// copyOf answers a standby: 204 if nothing is new, 503 if this node has no copy to
// give, 413 if it would be too large.
func (s *Server) copyOf(w http.ResponseWriter, r *http.Request) {
	if s.o.Copy == nil {
		http.NotFound(w, r)
		return
	}
	select { // one at a time: each is held in memory
	case s.copying <- struct{}{}:
		defer func() { <-s.copying }()
	case <-r.Context().Done():
		return
	}
	after := r.URL.Query().Get("after")
	c, err := s.o.Copy(after)
	switch {
	case errors.Is(err, ErrTooLarge):
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case c.Tag == after:
		w.WriteHeader(http.StatusNoContent)
	default:
		// An error means that the other node is gone or too slow. It sees a body without an
		// end.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(copyTime))
		w.Header().Set("Content-Type", "application/x-ndjson")
		_ = c.encode(w)
	}
}

// encode writes the body, line by line.
func (c *Copy) encode(w io.Writer) error {
	out := json.NewEncoder(w)
	if err := out.Encode(copyLine{Version: copyVersion, Tag: c.Tag, Epoch: c.Epoch, Cluster: c.Cluster, Offsets: c.Offsets}); err != nil {
		return err
	}
	for rest := c.Topics; rest != nil; {
		n := min(len(rest), pieceSize)
		piece := make([]copyTopic, 0, n)
		for _, t := range rest[:n] {
			piece = append(piece, copiedTopic(t))
		}
		if err := out.Encode(copyLine{Topics: piece}); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			rest = nil
		}
	}
	for _, line := range []copyLine{{Users: c.Users}, {Quotas: c.Quotas}, {Settings: c.Settings}, {End: true}} {
		if line.Users == nil && line.Quotas == nil && line.Settings == nil && !line.End {
			continue
		}
		if err := out.Encode(line); err != nil {
			return err
		}
	}
	return nil
}

// decodeCopy reads a body of at most that many bytes.
func decodeCopy(r io.Reader, most int64) (*Copy, error) {
	limited := &io.LimitedReader{R: r, N: most}
	in := json.NewDecoder(limited)
	var c *Copy
	for {
		var line copyLine
		err := in.Decode(&line)
		switch {
		case err != nil && limited.N == 0:
			return nil, fmt.Errorf("%w: it has more than %d bytes", ErrTooLarge, most)
		case err != nil:
			return nil, fmt.Errorf("%w: %w", errAnswer, err)
		case c == nil && (line.Version != copyVersion || line.Tag == ""):
			return nil, fmt.Errorf("%w: a copy of version %d, this node knows %d", errAnswer, line.Version, copyVersion)
		case c == nil:
			c = &Copy{Tag: line.Tag, Epoch: line.Epoch, Cluster: line.Cluster, Offsets: line.Offsets}
		case line.End:
			return c, nil
		}
		if err := c.add(line); err != nil {
			return nil, err
		}
	}
}

// add adds a line.
func (c *Copy) add(line copyLine) error {
	if line.Users != nil {
		c.Users = line.Users
	}
	if line.Quotas != nil {
		c.Quotas = line.Quotas
	}
	if line.Settings != nil {
		c.Settings = line.Settings
	}
	if line.Topics == nil {
		return nil
	}
	if len(c.Topics)+len(line.Topics) > MaxTopics {
		return fmt.Errorf("%w: more than %d topics", ErrTooLarge, MaxTopics)
	}
	if c.Topics == nil {
		c.Topics = []state.Topic{}
	}
	for _, t := range line.Topics {
		topic, err := t.topic()
		if err != nil {
			return err
		}
		c.Topics = append(c.Topics, topic)
	}
	return nil
}

// Copy asks a node, by its name and host:port, for what has changed since a tag, or
// for everything if the tag is "". It returns nil, nil if nothing has changed.
//
// Errors: ErrUnknownVerb, ErrNoCopy, ErrTooLarge; any other means that no answer
// came.
func (c *Client) Copy(ctx context.Context, node, address, after string) (*Copy, error) {
	key := node + "\n" + address + "\n" + copyPath // a connection of its own, so that pings do not wait behind it
	l := c.link(key, node, address)
	got, err := l.copyOf(ctx, after)
	if err != nil && !errors.Is(err, ErrUnknownVerb) && !errors.Is(err, ErrNoCopy) && !errors.Is(err, ErrTooLarge) {
		c.drop(key, l)
		return nil, fmt.Errorf("copy from node %q at %s: %w", node, address, err)
	}
	return got, err
}

func (l *link) copyOf(ctx context.Context, after string) (*Copy, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+copyPath+"?after="+url.QueryEscape(after), nil)
	if err != nil {
		return nil, err
	}
	res, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		return decodeCopy(res.Body, maxCopy)
	case http.StatusNoContent:
		return nil, nil
	}
	return nil, refusalOf(res)
}

// refusalOf returns the error of an answer without a copy.
func refusalOf(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusNotFound:
		return ErrUnknownVerb
	case http.StatusServiceUnavailable:
		return ErrNoCopy
	case http.StatusRequestEntityTooLarge:
		said, err := io.ReadAll(io.LimitReader(res.Body, maxRefusal))
		return errors.Join(fmt.Errorf("%w: %q", ErrTooLarge, said), err)
	}
	return fmt.Errorf("status %s", res.Status)
}
