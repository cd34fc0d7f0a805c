package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
)

// DescribeLogDirs (key 35): how much the partitions take.
//
// Behaviour:
//   - There is one directory, which stands for the bucket. Sizes are the bytes that
//     the partitions' record batches take at rest; how large the bucket is nobody
//     knows.
//   - Without topics the request is for all; a topic without partitions has no
//     answer, and neither have partitions that do not exist.
//
// Versions:
//   - v2: flexible; v4: size of the directory
//   - v3: top-level error; who may not ask gets no directory, before without a word

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

// numbers lists 0 to n-1.
func numbers(n int32) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}
