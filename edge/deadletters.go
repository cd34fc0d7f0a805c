package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/weirmq/weir/edge/wal"
)

// DeadLetter is a record that the cloud refused for good, as GET /dead-letters
// gives it: a line of JSON each. Key and value are base64, for they may be any
// bytes.
type DeadLetter struct {
	Buffer string `json:"buffer"`
	Lane   string `json:"lane"`
	Seq    uint64 `json:"sequence"`
	Reason string `json:"reason"`
	Topic  string `json:"topic"`
	Time   int64  `json:"time_ms"`
	Key    []byte `json:"key"`
	Value  []byte `json:"value"`
}

// Bounds of one answer. The records are collected before they are sent: a
// client that does not read must not hold up the burying of others.
const (
	maxDeadLetters = 1000
	maxDeadBytes   = 4 << 20
)

// errEnough ends a walk over the dead letters.
var errEnough = errors.New("enough for one answer")

// deadLetters answers GET /dead-letters?skip=N, oldest first. An answer without
// a line says that there are no more.
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
	err := e.log.EachDead(func(d wal.Dead) error {
		if skip > 0 {
			skip--
			return nil
		}
		line, err := json.Marshal(DeadLetter{d.Buffer.String(), d.Lane.String(), d.Seq, d.Reason,
			d.Record.Topic, d.Record.Timestamp, d.Record.Key, d.Record.Value})
		if err != nil {
			return err
		}
		body = append(append(body, line...), '\n')
		if lines++; lines == maxDeadLetters || len(body) > maxDeadBytes {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = w.Write(body) // the asker is gone, if this fails
}
