package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const recordsPath = "/peer/v1/records"

const (
	// maxRecordsQuestion and maxRecordsAnswer bound the bodies, in bytes: batches of several
	// partitions, or one large batch.
	maxRecordsQuestion = 20 << 20
	maxRecordsAnswer   = 20 << 20
	// longQuestion is from how many bytes on a question does not go over the link of those that
	// wait for records.
	longQuestion = 1 << 10
	// maxGrowth bounds a message about partitions that grow, in bytes.
	maxGrowth = 1 << 20
)

// records are the answers to questions about records.
func (s *Server) records() asked {
	if s.o.Records == nil {
		return nil
	}
	return func(r *http.Request, question []byte) ([]byte, error) {
		return s.o.Records(r.Context(), r.PathValue("what"), question)
	}
}

// followRecords streams which partitions of a shard grow. A message is its length (4 bytes)
// and a body.
func (s *Server) followRecords(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.URL.Query().Get("shard"), 10, 32)
	switch {
	case s.o.FollowRecords == nil:
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "the request names no shard", http.StatusBadRequest)
		return
	}
	control := http.NewResponseController(w)
	begun := false
	err = s.o.FollowRecords(r.Context(), uint32(id), func(message []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(answerTime))
		begun = true
		if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(message)))); err != nil {
			return err
		}
		if _, err := w.Write(message); err != nil {
			return err
		}
		err := control.Flush()
		_ = control.SetWriteDeadline(time.Time{})
		return err
	})
	if err != nil && !begun {
		http.Error(w, err.Error(), http.StatusMisdirectedRequest)
	}
}

// Records asks a node, by its name and host:port, about records that it leads. The bodies
// are those of package broker. Errors: ErrUnknownVerb; after any other the outcome is not
// known.
func (c *Client) Records(ctx context.Context, node, address, what string, question []byte) (answer []byte, err error) {
	kind := recordsPath + "/read" // batches in the other direction have a link of their own
	switch {
	case what == "ranges", what == "share-names": // those who ask do not wait long, and then the link is given up
		kind = recordsPath + "/view"
	case len(question) > longQuestion:
		kind = recordsPath + "/append"
	}
	return c.post(ctx, kind, node, address, recordsPath+"/"+what, question, maxRecordsAnswer)
}

// FollowRecords calls tell for each message of a node, by its name and host:port, about
// partitions of a shard that grow. It returns when the stream ends, with the reason, or
// with the error of tell. Errors: ErrUnknownVerb, ErrElsewhere if the node does not serve
// the shard.
func (c *Client) FollowRecords(ctx context.Context, node, address string, shard uint32, tell func(message []byte) error) error {
	key := node + "\n" + address + "\n" + recordsPath
	l := c.link(key, node, address)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+recordsPath+"?shard="+strconv.FormatUint(uint64(shard), 10), nil)
	if err != nil {
		return err
	}
	res, err := l.http.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			c.drop(key, l)
		}
		return fmt.Errorf("follow records of node %q at %s: %w", node, address, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return ErrUnknownVerb
	case http.StatusMisdirectedRequest:
		return ErrElsewhere
	default:
		return fmt.Errorf("follow records of node %q at %s: status %s", node, address, res.Status)
	}
	r := bufio.NewReader(res.Body)
	for {
		message, err := readGrowth(r)
		if err != nil {
			return fmt.Errorf("follow records of node %q at %s: %w", node, address, err)
		}
		if err := tell(message); err != nil {
			return err
		}
	}
}

// readGrowth reads a message about partitions that grow.
func readGrowth(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxGrowth {
		return nil, fmt.Errorf("%w: a message has %d bytes", errAnswer, n)
	}
	var body bytes.Buffer
	if got, err := io.CopyN(&body, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: a message of %d bytes ends after %d: %w", errAnswer, n, got, err)
	}
	return body.Bytes(), nil
}
