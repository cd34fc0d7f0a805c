package kafka

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18): the operations and versions that are served; the first
// request of every client.
//
// Behaviour:
//   - The response header is never flexible, so that a client can read it before
//     it knows the version (KIP-511).
//   - A request of a newer version than ours gets an answer in v0, with error 35 and
//     the range of this key; the client asks again within it.
//
// Versions:
//   - v3: flexible; name and version of the client's software, which must be
//     well-formed; features (KIP-584)
//   - v4: features that may be absent (version 0) are listed as supported: older
//     clients cannot read that (KAFKA-17492)

// features lists the features with a version of their own. With transaction.version
// 2, the end of each transaction raises the epoch, and Produce and TxnOffsetCommit
// add partitions and groups (KIP-890). group.version 1 is the newer group protocol
// (KIP-848), share.version 1 are share groups (KIP-932).
var features = []struct {
	name     string
	min, max int16
}{
	{"transaction.version", 0, 2},
	{"group.version", 0, 1},
	{"share.version", 0, 1},
}

// featuresEpoch never changes, as the features do not change while the node runs.
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

// tooNewApiVersions answers a request of a version that is too new to be decoded.
func (s *Server) tooNewApiVersions(own *api) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = own.key.Int16(), own.min, own.max
	resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{k}
	return resp
}

// sane reports whether a name consists of letters, digits, dots and dashes, and does
// not begin or end with a dot or dash (KIP-511).
func sane(name string) bool {
	outside := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-'
	}
	return name != "" && !strings.ContainsFunc(name, outside) && strings.Trim(name, ".-") == name
}
