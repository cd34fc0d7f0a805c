package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

const kafkaPath = "/peer/v1/kafka"

// maxKafkaAnswer bounds the answer to a request of Kafka's protocol, in bytes.
const maxKafkaAnswer = 16 << 20

// ErrTooLong means that a request is too long for the peer port.
var ErrTooLong = errors.New("request is too long to be passed on")

// KafkaRequest is a request of Kafka's protocol that one node passes on for a client.
type KafkaRequest struct {
	Behalf
	Key, Version int16
	Client       string // its client id
	Body         []byte // without the header
}

// kafka answers a request of Kafka's protocol.
func (s *Server) kafka(w http.ResponseWriter, r *http.Request) {
	if s.o.Kafka == nil {
		http.NotFound(w, r)
		return
	}
	v := r.URL.Query()
	key, err := strconv.ParseInt(v.Get("key"), 10, 16)
	version, err2 := strconv.ParseInt(v.Get("version"), 10, 16)
	body, err3 := io.ReadAll(r.Body)
	if err := errors.Join(err, err2, err3); err != nil {
		http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.o.Kafka(r.Context(), KafkaRequest{Behalf{v.Get("principal"), v.Get("host")}, int16(key), int16(version), v.Get("client"), body})
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(answer) // fails only if the caller has gone
}

// Kafka asks a node, by its name and host:port, to perform a request of Kafka's protocol
// for a client of this node. It returns the body of the response. Errors: ErrUnknownVerb,
// ErrTooLong; after any other the outcome is not known.
func (c *Client) Kafka(ctx context.Context, node, address string, q KafkaRequest) ([]byte, error) {
	if len(q.Body) > maxBody {
		return nil, ErrTooLong
	}
	v := url.Values{"key": {strconv.Itoa(int(q.Key))}, "version": {strconv.Itoa(int(q.Version))}, "principal": {q.Principal}, "host": {q.Host}, "client": {q.Client}}
	return c.post(ctx, topicPath, node, address, kafkaPath+"?"+v.Encode(), q.Body, maxKafkaAnswer)
}
