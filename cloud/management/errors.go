package management

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
)

// refusal is an error with its place in RabbitMQ's answers.
type refusal struct {
	status int
	kind   string // the member error
	reason string
	check  bool // a health check has failed
}

func (e *refusal) Error() string { return e.kind + ": " + e.reason }

// Errors in RabbitMQ's words.
var (
	errNoLogin          = &refusal{status: http.StatusUnauthorized, kind: "not_authorised", reason: "Login failed"}
	errLogin            = &refusal{status: http.StatusUnauthorized, kind: "not_authorised", reason: "Login failed"}
	errVhost            = &refusal{status: http.StatusUnauthorized, kind: "not_authorised", reason: "User not authorised to access virtual host"}
	errNotAdministrator = &refusal{status: http.StatusUnauthorized, kind: "not_authorised", reason: "Not administrator user"}
	errRefused          = &refusal{status: http.StatusUnauthorized, kind: "not_authorised", reason: "Access refused."}
	errNotFound         = &refusal{status: http.StatusNotFound, kind: "Object Not Found", reason: "Not Found"}
	errNoVhost          = &refusal{status: http.StatusNotFound, kind: "not_found", reason: "vhost_not_found"}
	errMethod           = &refusal{status: http.StatusMethodNotAllowed, kind: "Method Not Allowed", reason: "the path has no such method"}
)

func badRequest(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, kind: "bad_request", reason: fmt.Sprintf(format, args...)}
}

// refuse answers a request that failed.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := refusalOf(err)
	if e.status == http.StatusInternalServerError {
		s.o.Log.Error("a management request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if e == errNoLogin || e == errLogin {
		w.Header().Set("WWW-Authenticate", `Basic realm="Weir Management"`)
	}
	if e.check {
		reply(w, e.status, map[string]string{"status": e.kind, "reason": e.reason})
		return
	}
	reply(w, e.status, map[string]string{"error": e.kind, "reason": e.reason})
}

// refusalOf says how an error is answered.
func refusalOf(err error) *refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		switch e.Code {
		case wire.NotFound:
			return &refusal{status: http.StatusNotFound, kind: "not_found", reason: e.Text}
		case wire.AccessRefused:
			return errRefused
		}
		return badRequest("%s", e.Text)
	}
	if _, ok := errors.AsType[*login.Refused](err); ok {
		return errLogin
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &refusal{status: http.StatusRequestEntityTooLarge, kind: "bad_request", reason: err.Error()}
	case errors.Is(err, login.ErrChanged):
		return errLogin
	case errors.Is(err, queue.ErrNoQueue), errors.Is(err, auth.ErrUnknownUser), errors.Is(err, auth.ErrUnknownPermissions):
		return errNotFound
	case errors.Is(err, queue.ErrNoVhost):
		return errNoVhost
	case errors.Is(err, auth.ErrInvalid), errors.Is(err, auth.ErrTooMany), errors.Is(err, machine.ErrLevel), errors.Is(err, queue.ErrInvalid):
		return badRequest("%v", err)
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrStarting), errors.Is(err, login.ErrNoUsers), errors.Is(err, broker.ErrNotOwner), errors.Is(err, broker.ErrUnavailable), errors.Is(err, context.Canceled):
		return &refusal{status: http.StatusServiceUnavailable, kind: "service_unavailable", reason: err.Error()}
	}
	return &refusal{status: http.StatusInternalServerError, kind: "internal_server_error", reason: err.Error()}
}

// refusal returns the error with which a request is refused. If a change is refused because
// something does not exist, the bucket first has to say that this node still has the vhost,
// or users and permissions: a process that was stopped for a while may have lost them.
func (r *request) refusal(err error) error {
	if err == nil || r.Method == http.MethodGet || r.Method == http.MethodHead || refusalOf(err).status != http.StatusNotFound {
		return err
	}
	var lost error
	switch {
	case r.PathValue("user") != "":
		lost = r.s.o.ConfirmCatalogue(r.Context())
	case r.PathValue("vhost") != "":
		lost = r.s.o.ConfirmVhost(r.Context(), r.PathValue("vhost"))
	}
	if lost != nil {
		return lost
	}
	return err
}
