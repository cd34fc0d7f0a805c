package kafka

import (
	"context"
	"errors"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// AlterConfigs (key 33): gives topics these settings, and no others.
//
// Behaviour:
//   - What a request does not name has its default afterwards. Clients that mean
//     to change one setting use IncrementalAlterConfigs.
//   - Each topic is changed as a whole, durably when it is answered, or not at all.
//     Whoever appends or fetches from then on finds the new settings.
//   - Unknown settings and values that cannot be are INVALID_CONFIG; a setting
//     without a value, or named twice, and a resource that is in the request twice
//     are INVALID_REQUEST.
//   - The broker's settings cannot be changed by clients.
//   - validate_only checks all of that and changes nothing.
//
// Versions:
//   - v2: flexible
func (s *Server) alterConfigs(ctx context.Context, r *request, q *kmsg.AlterConfigsRequest) (*kmsg.AlterConfigsResponse, error) {
	resp := kmsg.NewPtrAlterConfigsResponse()
	resp.Version = q.Version
	twice := make(seen[resource])
	for i := range q.Resources {
		twice.add(resource{q.Resources[i].ResourceType, q.Resources[i].ResourceName})
	}
	for i := range q.Resources {
		want := &q.Resources[i]
		at := resource{want.ResourceType, want.ResourceName}
		to, err := replacement(want.Configs)
		if twice[at] {
			err = errResourceTwice
		}
		if err == nil {
			err = s.alter(ctx, r, at, to, q.ValidateOnly)
		}
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = want.ResourceType, want.ResourceName
		rr.ErrorCode, rr.ErrorMessage = code(err, controller), message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
}

// resource is what has settings.
type resource struct {
	typ  kmsg.ConfigResourceType
	name string
}

// seen says of each thing that was added whether it was added twice.
type seen[T comparable] map[T]bool

func (s seen[T]) add(x T) bool {
	_, twice := s[x]
	s[x] = twice
	return twice
}

var (
	errResourceTwice = refused(kerr.InvalidRequest, "a resource is in the request twice")
	errSettingTwice  = refused(kerr.InvalidRequest, "a setting is named twice")
)

// change is what a request wants of the settings of a topic.
type change func(configs map[string]string) error

// replacement makes the settings of a topic those of the request.
func replacement(list []kmsg.AlterConfigsRequestResourceConfig) (change, error) {
	want := make(map[string]string, len(list))
	for _, c := range list {
		if _, twice := want[c.Name]; twice {
			return nil, errSettingTwice
		}
		if c.Value == nil {
			return nil, refused(kerr.InvalidRequest, "setting %q has no value", c.Name)
		}
		want[c.Name] = *c.Value
	}
	return func(configs map[string]string) error {
		clear(configs)
		maps.Copy(configs, want)
		return nil
	}, nil
}

// alter makes one change, or only looks whether it could.
func (s *Server) alter(ctx context.Context, r *request, at resource, to change, check bool) error {
	switch at.typ {
	case kmsg.ConfigResourceTypeTopic:
	case kmsg.ConfigResourceTypeBroker:
		if err := r.mayCluster(kmsg.ACLOperationAlterConfigs); err != nil {
			return err
		}
		if err := s.checkBroker(at.name); err != nil {
			return err
		}
		return refused(kerr.InvalidRequest, "the broker's settings cannot be changed while it runs")
	default:
		return refused(kerr.InvalidRequest, "resources of type %d have no settings here", at.typ)
	}
	if !r.may(kmsg.ACLOperationAlterConfigs, kmsg.ACLResourceTypeTopic, at.name) {
		return errTopicDenied
	}
	t, err := s.configuredTopic(at.name)
	if err != nil {
		return err
	}
	err = s.broker.AlterTopic(ctx, t.ID, func(configs map[string]string) error {
		if err := to(configs); err != nil || !check {
			return err
		}
		if err := broker.CheckConfigs(configs); err != nil {
			return err
		}
		return errChecked
	})
	if errors.Is(err, errChecked) {
		return nil
	}
	return err
}

// errChecked ends a change that was only to be looked at.
var errChecked = errors.New("settings could be changed")
