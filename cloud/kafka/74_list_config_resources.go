package kafka

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (key 74): the resources that have settings (KIP-1142).
//
// Behaviour:
//   - They are topics, brokers, and groups for which clients have set something.
//     There are no client metrics. An empty list of types asks for all.
//
// Versions:
//   - v0: client metrics only; v1: any types
func (s *Server) listConfigResources(_ context.Context, r *request, q *kmsg.ListConfigResourcesRequest) (*kmsg.ListConfigResourcesResponse, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	resp.Version = q.Version
	err := r.mayCluster(kmsg.ACLOperationDescribeConfigs)
	wants := func(typ kmsg.ConfigResourceType) bool {
		return q.Version > 0 && (len(q.ResourceTypes) == 0 || slices.Contains(q.ResourceTypes, int8(typ)))
	}
	known := []kmsg.ConfigResourceType{
		kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger,
		kmsg.ConfigResourceTypeClientMetrics, kmsg.ConfigResourceTypeGroupConfig,
	}
	for _, typ := range q.ResourceTypes {
		if err == nil && !slices.Contains(known, kmsg.ConfigResourceType(typ)) {
			err = refused(kerr.UnsupportedVersion, "resources of type %d are not known", typ)
		}
	}
	topics, missing := s.broker.KnownTopics()
	groups, unknown := s.broker.ConfiguredGroups()
	if err == nil {
		err = errors.Join(missing, unknown)
	}
	if resp.ErrorCode = code(err, controller); err != nil {
		return resp, nil
	}
	add := func(typ kmsg.ConfigResourceType, name string) {
		c := kmsg.NewListConfigResourcesResponseConfigResource()
		c.Name, c.Type = name, int8(typ)
		resp.ConfigResources = append(resp.ConfigResources, c)
	}
	for _, t := range topics {
		if wants(kmsg.ConfigResourceTypeTopic) {
			add(kmsg.ConfigResourceTypeTopic, t.Name)
		}
	}
	if wants(kmsg.ConfigResourceTypeBroker) {
		id := s.broker.Self().ID
		if owner, ok := s.broker.Controller(); ok {
			id = owner.ID
		}
		add(kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(id)))
	}
	for _, name := range groups {
		if wants(kmsg.ConfigResourceTypeGroupConfig) {
			add(kmsg.ConfigResourceTypeGroupConfig, name)
		}
	}
	return resp, nil
}
