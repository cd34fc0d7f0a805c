package kafka

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/quota"
)

// AlterClientQuotas (key 49): changes the limits of users and clients (KIP-546).
//
// Behaviour:
//   - Needs AlterConfigs on the cluster. Each entity is changed, or refused, by
//     itself; durable when it is answered.
//   - There are limits on bytes written and read. One on anything else is refused
//     rather than kept without an effect.
//
// Versions:
//   - v1: flexible
func (s *Server) alterQuotas(ctx context.Context, r *request, q *kmsg.AlterClientQuotasRequest) (*kmsg.AlterClientQuotasResponse, error) {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	resp.Version = q.Version
	denied := r.mayCluster(kmsg.ACLOperationAlterConfigs)
	for i := range q.Entries {
		e := &q.Entries[i]
		err := denied
		if err == nil {
			err = s.alterQuota(ctx, e, q.ValidateOnly)
		}
		re := kmsg.NewAlterClientQuotasResponseEntry()
		re.ErrorCode, re.ErrorMessage = code(err, controller), message(err)
		for _, part := range e.Entity {
			p := kmsg.NewAlterClientQuotasResponseEntryEntity()
			p.Type, p.Name = part.Type, part.Name
			re.Entity = append(re.Entity, p)
		}
		resp.Entries = append(resp.Entries, re)
	}
	return resp, nil
}

func (s *Server) alterQuota(ctx context.Context, e *kmsg.AlterClientQuotasRequestEntry, dry bool) error {
	var entity quota.Entity
	for _, part := range e.Entity {
		name := quota.Default // null
		if part.Name != nil {
			if name = *part.Name; name == "" || name == quota.Default {
				return refused(kerr.InvalidRequest, "%s cannot be named %q", part.Type, name)
			}
		}
		of := map[string]*string{userEntity: &entity.User, clientEntity: &entity.Client}[part.Type]
		if of == nil || *of != "" {
			return refused(kerr.InvalidRequest, "quotas are for a user, a client-id, or one of each, not for %q", part.Type)
		}
		*of = name
	}
	var next quota.Limits
	changed := make(map[string]bool)
	for _, op := range e.Ops {
		of := map[string]*int64{produceQuota: &next.Produce, consumeQuota: &next.Consume}[op.Key]
		switch {
		case of == nil:
			return refused(kerr.InvalidRequest, "there is no limit on %q here: there are %s and %s", op.Key, produceQuota, consumeQuota)
		case changed[op.Key]:
			return refused(kerr.InvalidRequest, "%s is in the request twice", op.Key)
		case !op.Remove && (op.Value < 1 || op.Value >= math.MaxInt64 || op.Value != math.Trunc(op.Value)):
			return refused(kerr.InvalidRequest, "%s is a positive number of bytes per second", op.Key)
		}
		if changed[op.Key] = true; !op.Remove {
			*of = int64(op.Value)
		}
	}
	quotas, err := s.quotas()
	if err != nil {
		return err
	}
	return quotas.Set(ctx, entity, func(l *quota.Limits) {
		if changed[produceQuota] {
			l.Produce = next.Produce
		}
		if changed[consumeQuota] {
			l.Consume = next.Consume
		}
	}, dry)
}

// throttle counts bytes that a request has written or will read, and returns for
// how long the client has to wait. Until then nothing more is read of its
// connection, which others do not notice.
func (r *request) throttle(d quota.Direction, bytes int) int32 {
	quotas := r.conn.s.o.Quotas()
	if quotas == nil || bytes == 0 {
		return 0
	}
	wait := quotas.Take(d, auth.UserOf(r.conn.principal), r.clientID, bytes)
	if wait <= 0 {
		return 0
	}
	r.conn.mute(wait)
	return max(int32(wait.Milliseconds()), 1)
}
