package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/quota"
)

// DescribeClientQuotas (key 48): the limits of users and clients (KIP-546).
//
// Behaviour:
//   - Needs DescribeConfigs on the cluster.
//   - A component of the filter selects the entities that have it: by name, the
//     default one, or either. With strict, they have no other component.
//
// Versions:
//   - v1: flexible

const (
	userEntity   = "user"
	clientEntity = "client-id"

	produceQuota = "producer_byte_rate"
	consumeQuota = "consumer_byte_rate"
	requestQuota = "request_percentage"
)

// quotas returns the limits, for a change.
func (s *Server) quotas() (*quota.Quotas, error) {
	if q := s.access.OwnQuotas(); q != nil {
		return q, nil
	}
	return nil, errNoQuotas
}

func (s *Server) describeQuotas(_ context.Context, r *request, q *kmsg.DescribeClientQuotasRequest) (*kmsg.DescribeClientQuotasResponse, error) {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	resp.Version = q.Version
	entries, err := r.foundQuotas(q)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err, controller), message(err)
		return resp, nil
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null means an error
	for _, e := range entries {
		re := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, part := range []struct{ typ, name string }{{userEntity, e.User}, {clientEntity, e.Client}} {
			if part.name == "" {
				continue
			}
			p := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			if p.Type = part.typ; part.name != quota.Default {
				p.Name = &part.name
			}
			re.Entity = append(re.Entity, p)
		}
		for _, v := range []struct {
			key   string
			value float64
		}{{produceQuota, float64(e.Produce)}, {consumeQuota, float64(e.Consume)}, {requestQuota, e.Request}} {
			if v.value > 0 {
				rv := kmsg.NewDescribeClientQuotasResponseEntryValue()
				rv.Key, rv.Value = v.key, v.value
				re.Values = append(re.Values, rv)
			}
		}
		resp.Entries = append(resp.Entries, re)
	}
	return resp, nil
}

func (r *request) foundQuotas(q *kmsg.DescribeClientQuotasRequest) ([]quota.Entry, error) {
	if err := r.mayCluster(kmsg.ACLOperationDescribeConfigs); err != nil {
		return nil, err
	}
	given := make(map[string]bool)
	for _, c := range q.Components {
		switch {
		case c.EntityType != userEntity && c.EntityType != clientEntity:
			return nil, refused(kerr.UnsupportedVersion, "quotas are for users and clients, not for %q", c.EntityType)
		case given[c.EntityType], c.MatchType == kmsg.QuotasMatchTypeExact && text(c.Match) == "",
			c.MatchType < kmsg.QuotasMatchTypeExact || c.MatchType > kmsg.QuotasMatchTypeAny:
			return nil, refused(kerr.InvalidRequest, "unknown component %q", c.EntityType)
		}
		given[c.EntityType] = true
	}
	quotas := r.conn.s.access.Quotas()
	if quotas == nil {
		return nil, errNoQuotas
	}
	var found []quota.Entry
	for _, e := range quotas.Entries() {
		if chosenBy(q, e) {
			found = append(found, e)
		}
	}
	return found, nil
}

// chosenBy reports whether a request asks for an entry.
func chosenBy(q *kmsg.DescribeClientQuotasRequest, e quota.Entry) bool {
	left := map[string]string{userEntity: e.User, clientEntity: e.Client}
	for _, c := range q.Components {
		name := left[c.EntityType]
		delete(left, c.EntityType)
		switch {
		case name == "",
			c.MatchType == kmsg.QuotasMatchTypeDefault && name != quota.Default,
			c.MatchType == kmsg.QuotasMatchTypeExact && name != text(c.Match):
			return false
		}
	}
	for _, name := range left {
		if q.Strict && name != "" {
			return false
		}
	}
	return true
}
