package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DescribeLogDirs (key 35): the sizes of partitions.
//
// Behaviour:
//   - There is one directory, which stands for the bucket. Sizes are the bytes of the
//     partitions' record batches at rest; the size of the bucket is not known.
//   - Without topics the request is for all. Topics without partitions, and
//     partitions that do not exist, are left out.
//
// Versions:
//   - v2: flexible; v4: size of the directory
//   - v3: top-level error. A client without the right gets no directory; before v3 it
//     gets no error either

const (
	bucketDir  = "bucket"
	unknownDir = -1 // bytes
)

func (s *Server) describeLogDirs(_ context.Context, r *request, q *kmsg.DescribeLogDirsRequest) (*kmsg.DescribeLogDirsResponse, error) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Version = q.Version
	err := r.mayCluster(kmsg.ACLOperationDescribe)
	if resp.ErrorCode = code(err, controller); err != nil {
		return resp, nil
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, dir.TotalBytes, dir.UsableBytes = bucketDir, unknownDir, unknownDir
	dir.Topics, err = s.dirTopics(q.Topics)
	dir.ErrorCode = code(err, leader)
	resp.Dirs = append(resp.Dirs, dir)
	return resp, nil
}

func (s *Server) dirTopics(wanted []kmsg.DescribeLogDirsRequestTopic) ([]kmsg.DescribeLogDirsResponseDirTopic, error) {
	topics, err := s.broker.Topics()
	if err != nil {
		return nil, err
	}
	var of map[string][]int32
	if wanted != nil {
		of = make(map[string][]int32, len(wanted))
		for _, w := range wanted {
			of[w.Topic] = append(of[w.Topic], w.Partitions...)
		}
	}
	var all []kmsg.DescribeLogDirsResponseDirTopic
	for _, t := range topics {
		partitions := of[t.Name]
		if wanted == nil {
			partitions = numbers(t.Partitions)
		}
		rt := kmsg.NewDescribeLogDirsResponseDirTopic()
		rt.Topic = t.Name
		for _, p := range partitions {
			size, err := s.broker.Size(t.ID, p)
			if errors.Is(err, broker.ErrUnknownTopic) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition, rp.Size = p, size
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			all = append(all, rt)
		}
	}
	return all, nil
}

// numbers returns 0 to n-1.
func numbers(n int32) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}
