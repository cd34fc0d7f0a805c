package kafka

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/machine"
)

// AlterUserScramCredentials (key 51): adds, changes and removes users' credentials
// (KIP-554).
//
// Behaviour:
//   - Needs Alter on the cluster. Each user is changed, or refused, by itself;
//     durable when it is answered.
//   - Clients salt passwords themselves: the server gets no password.
//   - 4,096 to 65,536 iterations (Kafka: to 16,384), and a salt of any length, as in
//     Kafka. In a bucket of format level 1 the salt must have 8 bytes.
//   - If a request names a user's mechanism twice, it is refused.
//   - Connections that are open stay so.
func (s *Server) alterUsers(ctx context.Context, r *request, q *kmsg.AlterUserSCRAMCredentialsRequest) (*kmsg.AlterUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	resp.Version = q.Version
	changes := make(map[string]*userChange)
	of := func(user string) *userChange {
		if changes[user] == nil {
			changes[user] = &userChange{user: user, times: make(map[int8]int)}
		}
		return changes[user]
	}
	for _, d := range q.Deletions {
		c := of(d.Name)
		c.times[d.Mechanism]++
		c.remove = append(c.remove, auth.Mechanism(d.Mechanism))
	}
	for _, u := range q.Upsertions {
		c := of(u.Name)
		c.times[u.Mechanism]++
		credential, err := auth.CredentialOf(auth.Mechanism(u.Mechanism), u.SaltedPassword, u.Salt, int(u.Iterations))
		if err != nil {
			c.bad = refused(kerr.UnacceptableCredential, "%v", err)
		}
		c.set = append(c.set, credential)
	}
	denied := r.mayCluster(kmsg.ACLOperationAlter)
	for _, user := range slices.Sorted(maps.Keys(changes)) {
		err := denied
		if err == nil {
			err = r.refusal(ctx, s.alterUser(ctx, changes[user]))
		}
		rr := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		rr.User, rr.ErrorCode, rr.ErrorMessage = user, code(err, controller), message(err)
		resp.Results = append(resp.Results, rr)
	}
	return resp, nil
}

// userChange is what a request asks for one user.
type userChange struct {
	user   string
	times  map[int8]int // how often each mechanism is named
	remove []auth.Mechanism
	set    []auth.Credential
	bad    error
}

func (s *Server) alterUser(ctx context.Context, c *userChange) error {
	users, err := s.users()
	if err != nil {
		return err
	}
	for m, n := range c.times {
		switch {
		case !slices.Contains(auth.Mechanisms(), auth.Mechanism(m)):
			return refused(kerr.UnsupportedSaslMechanism, "mechanism %d is not known", m)
		case n > 1:
			return refused(kerr.DuplicateResource, "user %q is in the request twice", c.user)
		}
	}
	if c.bad != nil {
		return c.bad
	}
	for _, m := range c.remove {
		if err := users.RemoveCredential(ctx, c.user, m); err != nil {
			return err
		}
	}
	err = users.SetCredentials(ctx, c.user, c.set...)
	if errors.Is(err, machine.ErrLevel) {
		return refused(kerr.UnacceptableCredential, "%v", err)
	}
	return err
}
