package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// IncrementalAlterConfigs (key 44): changes single settings of topics, brokers and
// groups (KIP-339).
//
// Behaviour:
//   - SET sets a value, and DELETE goes back to the default. APPEND and SUBTRACT add
//     words to settings that are lists, or remove them, starting from the default if
//     the resource has no value of its own. A word that is there is not added again.
//   - Otherwise as AlterConfigs. Changes of one resource by several clients run one
//     after the other, so that none undoes another.
//
// Versions:
//   - v1: flexible
func (s *Server) incrementalAlterConfigs(ctx context.Context, r *request, q *kmsg.IncrementalAlterConfigsRequest) (*kmsg.IncrementalAlterConfigsResponse, error) {
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	resp.Version = q.Version
	twice := make(seen[resource])
	for i := range q.Resources {
		twice.add(resource{q.Resources[i].ResourceType, q.Resources[i].ResourceName})
	}
	for i := range q.Resources {
		want := &q.Resources[i]
		at := resource{want.ResourceType, want.ResourceName}
		to, err := increments(want.Configs, s.settingOf(want.ResourceType))
		if twice[at] {
			err = errResourceTwice
		}
		if err == nil {
			err = s.alter(ctx, r, at, to, q.ValidateOnly)
		}
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = want.ResourceType, want.ResourceName
		rr.ErrorCode, rr.ErrorMessage = code(err, controller), message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
}

// increments returns the change that makes those of the request one by one.
func increments(list []kmsg.IncrementalAlterConfigsRequestResourceConfig, setting func(string) (broker.Setting, error)) (change, error) {
	named := make(seen[string], len(list))
	for _, c := range list {
		if named.add(c.Name) {
			return nil, errSettingTwice
		}
		if c.Value == nil && c.Op != kmsg.IncrementalAlterConfigOpDelete {
			return nil, refused(kerr.InvalidRequest, "setting %q has no value", c.Name)
		}
	}
	return func(configs map[string]string) error {
		for _, c := range list {
			if err := increment(configs, c, setting); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func increment(configs map[string]string, c kmsg.IncrementalAlterConfigsRequestResourceConfig, find func(string) (broker.Setting, error)) error {
	switch c.Op {
	case kmsg.IncrementalAlterConfigOpSet:
		configs[c.Name] = *c.Value
		return nil
	case kmsg.IncrementalAlterConfigOpDelete:
		delete(configs, c.Name)
		return nil
	case kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract:
	default:
		return refused(kerr.InvalidRequest, "operation %d on setting %q is not known", c.Op, c.Name)
	}
	setting, err := find(c.Name)
	if err != nil {
		return err
	}
	if setting.Type != broker.List {
		return refused(kerr.InvalidConfig, "setting %q is no list: nothing can be added to it or taken from it", c.Name)
	}
	before, own := configs[c.Name]
	if !own {
		before = setting.Default
	}
	words, change := broker.Words(before), broker.Words(*c.Value)
	for _, w := range change {
		switch there := slices.Contains(words, w); {
		case c.Op == kmsg.IncrementalAlterConfigOpAppend && !there:
			words = append(words, w)
		case c.Op == kmsg.IncrementalAlterConfigOpSubtract && there:
			words = slices.DeleteFunc(words, func(have string) bool { return have == w })
		}
	}
	configs[c.Name] = strings.Join(words, ",")
	return nil
}
