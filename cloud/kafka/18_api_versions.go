package kafka

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18): what is served, the first request of every client.
//
// Behaviour:
//   - The response header is never flexible, so that a client can read it before
//     it knows the version (KIP-511).
//   - Asked in a version above ours, the answer is in v0, with error 35 and the
//     range of this key; the client asks again within it.
//
// Versions:
//   - v3: flexible; name and version of the client's software, which must be sane;
//     features (KIP-584)
//   - v4: features that may be absent (version 0) are listed as supported: older
//     clients cannot read that (KAFKA-17492)

// features are what clients find out by a version of its own. With version 2 of
// the transactions they let the end of each bump the epoch, and partitions and
// groups be added by what is sent to them (KIP-890). Version 1 of the groups is the
// newer protocol (KIP-848).
var features = []struct {
	name     string
	min, max int16
}{
	{"transaction.version", 0, 2},
	{"group.version", 0, 1},
}

// featuresEpoch never changes: nor do the features while the node runs.
const featuresEpoch = 0

const absentFeatures = 4

func (s *Server) apiVersions(_ context.Context, _ *request, q *kmsg.ApiVersionsRequest) (*kmsg.ApiVersionsResponse, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = q.Version
	if q.Version >= 3 && (!sane(q.ClientSoftwareName) || !sane(q.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	}
	for _, a := range s.apis {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key.Int16(), a.min, a.max
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	resp.FinalizedFeaturesEpoch = featuresEpoch
	for _, f := range features {
		if f.min > 0 || q.Version >= absentFeatures {
			supported := kmsg.NewApiVersionsResponseSupportedFeature()
			supported.Name, supported.MinVersion, supported.MaxVersion = f.name, f.min, f.max
			resp.SupportedFeatures = append(resp.SupportedFeatures, supported)
		}
		finalized := kmsg.NewApiVersionsResponseFinalizedFeature()
		finalized.Name, finalized.MinVersionLevel, finalized.MaxVersionLevel = f.name, f.max, f.max
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, finalized)
	}
	return resp, nil
}

// tooNewApiVersions answers a version that is not known, and cannot be decoded.
func (s *Server) tooNewApiVersions(own *api) response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = own.key.Int16(), own.min, own.max
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{k}
	return resp
}

// sane tells whether a name is letters, digits, dots and dashes, with neither of
// those at the ends (KIP-511).
func sane(name string) bool {
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}
	return name != "" && !strings.ContainsFunc(name, outside) && strings.Trim(name, ".-") == name
}
