package edge

import (
	"context"
	"net/http"
	"time"

	"github.com/weirmq/weir/cloud/admin"
)

// Session is a device's MQTT session, as GET /sessions returns it.
type Session struct {
	Client        string   `json:"client"`
	User          string   `json:"user,omitempty"`
	Connected     bool     `json:"connected"`
	Address       string   `json:"address,omitempty"`
	Subscriptions []string `json:"subscriptions"`
	InFlight      int      `json:"in_flight"`
	Queued        int      `json:"queued"`
	QueuedBytes   int      `json:"queued_bytes"`
}

// sessionsTime is how long a request waits for a busy broker before it fails.
const sessionsTime = 10 * time.Second

// sessions answers GET /sessions.
func (e *Edge) sessions(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), sessionsTime)
	defer cancel()
	known, err := e.mqtt.Sessions(ctx)
	if err != nil {
		admin.Reply(w, http.StatusServiceUnavailable, admin.Error{Error: "the broker is busy: " + err.Error()})
		return
	}
	all := make([]Session, 0, len(known))
	for _, s := range known {
		one := Session{s.Client, s.User, s.Address != "", s.Address, s.Subscriptions, s.InFlight, s.Queued, s.QueuedBytes}
		if one.Subscriptions == nil {
			one.Subscriptions = []string{}
		}
		all = append(all, one)
	}
	admin.Reply(w, http.StatusOK, all)
}
