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
//   - v3: flexible; name and version of the client's software, which must be sane
//   - v4: features with version 0 (none are finalized here)

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
