package peer

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"
)

// answerTime is how long the other node may take to read an answer.
const answerTime = 30 * time.Second

// asked returns the answer to a question that another node asks. An error means that the
// question cannot be read.
type asked func(r *http.Request, question []byte) (answer []byte, err error)

// plain is an asked to which nothing matters but the question; nil if do is nil.
func plain(do func(ctx context.Context, question []byte) (answer []byte, err error)) asked {
	if do == nil {
		return nil
	}
	return func(r *http.Request, question []byte) ([]byte, error) { return do(r.Context(), question) }
}

// answering serves a verb whose questions and answers are the bodies of the messages. With
// nil this node does not know the verb.
func answering(do asked) http.HandlerFunc {
	if do == nil {
		return http.NotFound
	}
	return func(w http.ResponseWriter, r *http.Request) {
		question, err := readSized(r)
		if err != nil {
			http.Error(w, "read the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := do(r, question)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer) // fails only if the caller has gone, or is too slow
	}
}

// readSized reads the body of a request. Memory is taken for what has arrived.
func readSized(r *http.Request) ([]byte, error) {
	var body bytes.Buffer
	if n := r.ContentLength; n > 0 {
		body.Grow(int(min(n, readAtFirst)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(r.Body)
	return body.Bytes(), err
}
