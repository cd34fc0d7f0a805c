package kafka

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/quota"
)

// AlterClientQuotas (key 49): changes the limits of users and clients (KIP-546).
//
// Behaviour:
//   - Needs AlterConfigs on the cluster. Each entity is changed, or refused, by
//     itself; durable when it is answered.
//   - There are limits on bytes written, on bytes read, and on the time of work on
//     requests (see throttle.go). Any other limit is refused, since it would have no
//     effect.
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
	next, err := wantedLimits(e.Ops)
	if err != nil {
		return err
	}
	quotas, err := s.quotas()
	if err != nil {
		return err
	}
	return quotas.Set(ctx, entity, func(l *quota.Limits) {
		for key, value := range next {
			switch key {
			case produceQuota:
				l.Produce = int64(value)
			case consumeQuota:
				l.Consume = int64(value)
			case requestQuota:
				l.Request = value
			}
		}
	}, dry)
}

// wantedLimits returns the values that a request sets for an entity, by name; 0
// removes a limit.
func wantedLimits(ops []kmsg.AlterClientQuotasRequestEntryOp) (map[string]float64, error) {
	next := make(map[string]float64)
	for _, op := range ops {
		_, twice := next[op.Key]
		bytes := op.Key == produceQuota || op.Key == consumeQuota
		switch {
		case !bytes && op.Key != requestQuota:
			return nil, refused(kerr.InvalidRequest, "there is no limit on %q here: there are %s, %s and %s", op.Key, produceQuota, consumeQuota, requestQuota)
		case twice:
			return nil, refused(kerr.InvalidRequest, "%s is in the request twice", op.Key)
		case op.Remove:
			op.Value = 0
		case bytes && (op.Value < 1 || op.Value >= math.MaxInt64 || op.Value != math.Trunc(op.Value)):
			return nil, refused(kerr.InvalidRequest, "%s is a positive number of bytes per second", op.Key)
		case !bytes && (!(op.Value > 0) || math.IsInf(op.Value, 1)): // NaN is not more than 0
			return nil, refused(kerr.InvalidRequest, "%s is a positive number: 100 is the time of one core", op.Key)
		}
		next[op.Key] = op.Value
	}
	return next, nil
}
