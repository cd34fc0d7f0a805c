package kafka

import (
	"context"
	"errors"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// AlterConfigs (key 33): replaces the settings of topics, brokers and groups.
//
// Behaviour:
//   - Settings that a request does not name go back to their defaults. To change one
//     setting, clients use IncrementalAlterConfigs.
//   - Each resource is changed as a whole or not at all; durable when answered.
//     Appends and fetches use the new settings from then on.
//   - Unknown settings and invalid values are INVALID_CONFIG. INVALID_REQUEST is the
//     error for a setting without a value, or named twice, and for a resource that is
//     in the request twice.
//   - A broker is named by its number, or "" for all that have no settings of their
//     own; each owner of the shard uses them. Settings that are fixed at the start
//     are INVALID_REQUEST. Groups have settings too, whether they exist or not.
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

// resource is something that has settings.
type resource struct {
	typ  kmsg.ConfigResourceType
	name string
}

// seen reports for each thing whether it was added before.
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

// change changes the settings of a resource as a request asks.
type change func(configs map[string]string) error

// replacement returns the change that replaces all settings by those of the request.
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

// alter makes a change, or with check only reports whether it is possible.
func (s *Server) alter(ctx context.Context, r *request, at resource, to change, check bool) error {
	store, valid, err := s.alterable(r, at)
	if err != nil {
		return r.refusal(ctx, err)
	}
	err = store(ctx, func(configs map[string]string) error {
		if err := to(configs); err != nil || !check {
			return err
		}
		if err := valid(configs); err != nil {
			return err
		}
		return errChecked
	})
	if errors.Is(err, errChecked) {
		return nil
	}
	return r.refusal(ctx, err)
}

// alterable returns the functions that store and check settings of a resource, if the
// client may change them.
func (s *Server) alterable(r *request, at resource) (store func(context.Context, func(map[string]string) error) error, valid func(map[string]string) error, err error) {
	switch at.typ {
	case kmsg.ConfigResourceTypeTopic:
		if !r.may(kmsg.ACLOperationAlterConfigs, kmsg.ACLResourceTypeTopic, at.name) {
			return nil, nil, errTopicDenied
		}
		t, err := s.configuredTopic(at.name)
		if err == nil && broker.Internal(t.Name) {
			err = errInternalTopic
		}
		return func(ctx context.Context, to func(map[string]string) error) error {
			return s.broker.AlterTopic(ctx, t.ID, to)
		}, broker.CheckConfigs, err
	case kmsg.ConfigResourceTypeBroker:
		err := r.mayCluster(kmsg.ACLOperationAlterConfigs)
		if err == nil {
			err = s.checkBroker(at.name)
		}
		return func(ctx context.Context, to func(map[string]string) error) error {
			return s.broker.AlterBroker(ctx, at.name, to)
		}, s.broker.CheckBroker, err
	case kmsg.ConfigResourceTypeGroupConfig:
		return func(ctx context.Context, to func(map[string]string) error) error {
			return s.broker.AlterGroup(ctx, at.name, to)
		}, broker.CheckGroup, r.checkGroupConfigs(kmsg.ACLOperationAlterConfigs, at.name)
	}
	return nil, nil, refused(kerr.InvalidRequest, "resources of type %d have no settings here", at.typ)
}

// settingOf finds a setting of a kind of resources.
func (s *Server) settingOf(typ kmsg.ConfigResourceType) func(name string) (broker.Setting, error) {
	switch typ {
	case kmsg.ConfigResourceTypeBroker:
		return s.broker.BrokerSetting
	case kmsg.ConfigResourceTypeGroupConfig:
		return broker.GroupSetting
	}
	return broker.TopicSetting
}

// errChecked ends a change that was only to be checked.
var errChecked = errors.New("settings could be changed")
