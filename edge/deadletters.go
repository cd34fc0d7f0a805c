package edge

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/weirmq/weir/edge/wal"
)

// DeadLetter is a record that the cloud refused for good, or a message that the
// gateway itself refused. GET /dead-letters returns one as a line of JSON. Key and
// value are base64, because they may be any bytes.
type DeadLetter struct {
	Kind   string `json:"kind"` // one of the Refused… constants
	Buffer string `json:"buffer,omitempty"`
	Lane   string `json:"lane,omitempty"`
	Seq    uint64 `json:"sequence"`
	Reason string `json:"reason"`
	Topic  string `json:"topic"` // the Kafka topic; the MQTT topic if the gateway refused it
	Time   int64  `json:"time_ms"`
	Key    []byte `json:"key,omitempty"`
	Value  []byte `json:"value"`

	Client string `json:"client,omitempty"` // empty for a route with source: off

	// Only if the gateway refused it.
	QoS    *byte  `json:"qos,omitempty"`
	Size   int64  `json:"size,omitempty"`   // bytes of the payload as it was sent
	SHA256 string `json:"sha256,omitempty"` // of the payload, if value has only its beginning
}

// Kinds of dead letters.
const (
	RefusedByCloud   = "refused-by-cloud"
	RefusedByGateway = "refused-by-gateway"
)

// Limits of one answer. The dead letters are collected before they are sent, so that
// a client that does not read does not hold up other requests.
const (
	maxDeadLetters = 1000
	maxDeadBytes   = 4 << 20
)

// errEnough stops the iteration over the dead letters.
var errEnough = errors.New("enough for one answer")

// deadLetters answers GET /dead-letters?skip=N: first what the cloud refused, then
// what the gateway refused, oldest first. An answer without a line means that there
// are no more.
func (e *Edge) deadLetters(w http.ResponseWriter, r *http.Request) {
	skip := 0
	if s := r.URL.Query().Get("skip"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			http.Error(w, fmt.Sprintf("skip %q is no number", s), http.StatusBadRequest)
			return
		}
		skip = n
	}
	var body []byte
	lines := 0
	add := func(letter func() DeadLetter) error {
		if skip > 0 {
			skip--
			return nil
		}
		line, err := json.Marshal(letter())
		if err != nil {
			return err
		}
		body = append(append(body, line...), '\n')
		if lines++; lines == maxDeadLetters || len(body) > maxDeadBytes {
			return errEnough
		}
		return nil
	}
	err := e.log.EachDead(func(d wal.Dead) error { return add(func() DeadLetter { return deadLetter(d) }) })
	if err == nil {
		err = e.log.Letters().Each(func(l wal.Letter) error { return add(func() DeadLetter { return refusedLetter(l) }) })
	}
	if err != nil && !errors.Is(err, errEnough) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = w.Write(body) // fails if the client has gone
}

func deadLetter(d wal.Dead) DeadLetter {
	l := DeadLetter{Kind: RefusedByCloud, Buffer: d.Buffer.String(), Lane: d.Lane.String(), Seq: d.Seq, Reason: d.Reason,
		Topic: d.Record.Topic, Time: d.Record.Timestamp, Key: d.Record.Key, Value: d.Record.Value}
	for _, h := range d.Record.Headers {
		if h.Key == headerClient {
			l.Client = string(h.Value)
			break
		}
	}
	return l
}

func refusedLetter(l wal.Letter) DeadLetter {
	return DeadLetter{Kind: RefusedByGateway, Seq: l.Seq, Reason: l.Reason, Topic: l.Topic, Time: l.Time, Value: l.Payload,
		Client: l.Client, QoS: &l.QoS, Size: l.Size, SHA256: hex.EncodeToString(l.Hash)}
}
