package listener

import (
	"net"
	"net/http"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/budget"
)

// Traffic counts what passes through a listener. The door adds to it. It may be used by
// many goroutines, and must not be copied.
type Traffic struct {
	Received, Sent atomic.Uint64 // bytes; the door says whether those of TLS are among them
	Requests       atomic.Uint64
	Errors         atomic.Uint64 // in answers, and connections that were closed because of what the client sent
}

// Counts are what was counted at one listener of a door since the start.
type Counts struct {
	Listener string `json:"listener"` // its name; "" if the door has but one
	budget.GateCounts
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
}

// Counts returns what was counted at the listener of that name, with the counts of its
// connections.
func (t *Traffic) Counts(name string, conns budget.GateCounts) Counts {
	return Counts{Listener: name, GateCounts: conns,
		Received: t.Received.Load(), Sent: t.Sent.Load(), Requests: t.Requests.Load(), Errors: t.Errors.Load()}
}

// Conn returns nc with its bytes counted.
func (t *Traffic) Conn(nc net.Conn) net.Conn { return &counted{nc, t} }

type counted struct {
	net.Conn
	traffic *Traffic
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.traffic.Received.Add(uint64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.Sent.Add(uint64(n))
	return n, err
}

// Handler returns h with its requests counted. A status of 400 or more is an error.
func (t *Traffic) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Requests.Add(1)
		h.ServeHTTP(&answer{w, t, false}, r)
	})
}

// answer counts an error once.
type answer struct {
	http.ResponseWriter
	traffic *Traffic
	begun   bool
}

func (a *answer) WriteHeader(status int) {
	if status >= http.StatusBadRequest && !a.begun {
		a.traffic.Errors.Add(1)
	}
	a.begun = a.begun || status >= http.StatusOK
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
