package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/record"
)

// role is the role in which a request addresses this node. The error that sends a
// client to another node depends on it.
type role int

const (
	leader      role = iota // of a partition
	coordinator             // of a group
	controller              // of the cluster
	allocator               // of producer ids: clients send these requests to any node

	roles // number of roles
)

// same returns one code for all roles.
func same(code *kerr.Error) [roles]*kerr.Error { return [roles]*kerr.Error{code, code, code, code} }

// elsewhere has the codes that send a client to another node, by role; later has
// those that make it ask this node again.
var (
	elsewhere = [roles]*kerr.Error{leader: kerr.NotLeaderForPartition, coordinator: kerr.NotCoordinator, controller: kerr.NotController, allocator: kerr.CoordinatorLoadInProgress}
	later     = [roles]*kerr.Error{leader: kerr.LeaderNotAvailable, coordinator: kerr.CoordinatorNotAvailable, controller: kerr.RequestTimedOut, allocator: kerr.CoordinatorLoadInProgress}
)

// codes maps errors to the protocol's codes, by role. The first row that matches
// counts. It is not changed.
var codes = []struct {
	err  error
	code [roles]*kerr.Error
}{
	{broker.ErrNotOwner, elsewhere},
	{broker.ErrUnavailable, later},
	{broker.ErrNoLeader, later},
	{broker.ErrUnknownTopic, same(kerr.UnknownTopicOrPartition)},
	{broker.ErrTopicExists, same(kerr.TopicAlreadyExists)},
	{broker.ErrTopicDeleting, same(kerr.RequestTimedOut)},
	{broker.ErrInvalidTopic, same(kerr.InvalidTopicException)},
	{broker.ErrInvalidPartitions, same(kerr.InvalidPartitions)},
	{broker.ErrInvalidConfig, same(kerr.InvalidConfig)},
	{broker.ErrFixed, same(kerr.InvalidRequest)},
	{settings.ErrInvalid, same(kerr.InvalidConfig)},
	{settings.ErrTooMany, same(kerr.PolicyViolation)},
	{machine.ErrLevel, same(kerr.PolicyViolation)},
	{broker.ErrOffsetOutOfRange, same(kerr.OffsetOutOfRange)},
	{broker.ErrTooLarge, same(kerr.MessageTooLarge)},
	{broker.ErrInvalidTimestamp, same(kerr.InvalidTimestamp)},
	{broker.ErrOutOfOrderSequence, same(kerr.OutOfOrderSequenceNumber)},
	{broker.ErrUnsupported, same(kerr.InvalidRecord)},
	{broker.ErrProducerFenced, same(kerr.InvalidProducerEpoch)},
	{broker.ErrUnknownProducer, same(kerr.UnknownProducerID)},
	{broker.ErrTransactionOpen, same(kerr.InvalidTxnState)},

	{group.ErrUnavailable, elsewhere},
	{group.ErrClosed, elsewhere},
	{group.ErrInvalidGroup, same(kerr.InvalidGroupID)},
	{group.ErrUnknownGroup, same(kerr.GroupIDNotFound)},
	{group.ErrGroupNotEmpty, same(kerr.NonEmptyGroup)},
	{group.ErrTooManyGroups, same(kerr.PolicyViolation)},
	{group.ErrInvalidName, same(kerr.InvalidRequest)},
	{group.ErrGroupFull, same(kerr.GroupMaxSizeReached)},
	{group.ErrUnknownMember, same(kerr.UnknownMemberID)},
	{group.ErrMemberIDRequired, same(kerr.MemberIDRequired)},
	{group.ErrFencedInstance, same(kerr.FencedInstanceID)},
	{group.ErrIllegalGeneration, same(kerr.IllegalGeneration)},
	{group.ErrRebalanceInProgress, same(kerr.RebalanceInProgress)},
	{group.ErrInconsistentProtocol, same(kerr.InconsistentGroupProtocol)},
	{group.ErrInvalidSession, same(kerr.InvalidSessionTimeout)},
	{group.ErrMetadataTooLarge, same(kerr.OffsetMetadataTooLarge)},
	{group.ErrInvalidHeartbeat, same(kerr.InvalidRequest)},
	{group.ErrInvalidPattern, same(kerr.InvalidRegularExpression)},
	{group.ErrUnsupportedAssignor, same(kerr.UnsupportedAssignor)},
	{group.ErrFencedEpoch, same(kerr.FencedMemberEpoch)},
	{group.ErrStaleEpoch, same(kerr.StaleMemberEpoch)},
	{group.ErrUnreleasedInstance, same(kerr.UnreleasedInstanceID)},

	{share.ErrInvalidState, same(kerr.InvalidRecordState)},
	{share.ErrInvalid, same(kerr.InvalidRequest)},
	{share.ErrTooMany, same(kerr.PolicyViolation)},
	{share.ErrUnknown, same(kerr.UnknownTopicOrPartition)},
	{share.ErrNoSession, same(kerr.ShareSessionNotFound)},
	{share.ErrSessionEpoch, same(kerr.InvalidShareSessionEpoch)},
	{share.ErrSessionLimit, same(kerr.ShareSessionLimitReached)},
	{share.ErrSessionTooWide, same(kerr.InvalidRequest)},
	{errAcknowledgeFirst, same(kerr.InvalidRequest)},

	{txn.ErrUnavailable, elsewhere},
	{txn.ErrClosed, elsewhere},
	{txn.ErrInvalidID, same(kerr.InvalidRequest)},
	{txn.ErrInvalidTimeout, same(kerr.InvalidTransactionTimeout)},
	{txn.ErrUnknownID, same(kerr.InvalidProducerIDMapping)},
	{txn.ErrNotFound, same(kerr.TransactionalIDNotFound)},
	{txn.ErrFenced, same(kerr.ProducerFenced)}, // olderCode
	{txn.ErrConcurrent, same(kerr.ConcurrentTransactions)},
	{txn.ErrInvalidState, same(kerr.InvalidTxnState)},
	{txn.ErrNotInTransaction, same(kerr.TransactionAbortable)}, // olderCode
	{txn.ErrTooLarge, same(kerr.PolicyViolation)},
	{txn.ErrTooManyIDs, same(kerr.PolicyViolation)},

	{broker.ErrFenced, elsewhere},
	{broker.ErrClosed, elsewhere},
	{auth.ErrInvalid, same(kerr.InvalidRequest)},
	{auth.ErrTooMany, same(kerr.PolicyViolation)},
	{auth.ErrUnknownUser, same(kerr.ResourceNotFound)},
	{quota.ErrInvalid, same(kerr.InvalidRequest)},
	{quota.ErrTooMany, same(kerr.PolicyViolation)},
	{errNoQuotas, elsewhere},
	{errNoACLs, same(kerr.SecurityDisabled)},
	{errFilter, same(kerr.InvalidRequest)},
	{errInternalTopic, same(kerr.TopicAuthorizationFailed)},
	{errTopicDenied, same(kerr.TopicAuthorizationFailed)},
	{errGroupDenied, same(kerr.GroupAuthorizationFailed)},
	{errClusterDenied, same(kerr.ClusterAuthorizationFailed)},
	{errTransactionDenied, same(kerr.TransactionalIDAuthorizationFailed)},

	{errSubscribed, same(kerr.GroupSubscribedToTopic)},

	{errSession, same(kerr.FetchSessionIDNotFound)},
	{errSessionEpoch, same(kerr.InvalidFetchSessionEpoch)},
	{errUnknownID, same(kerr.UnknownTopicID)},
	{errNoTransaction, same(kerr.TransactionalIDAuthorizationFailed)},
	{errInvalidRecord, same(kerr.InvalidRecord)},
	{errCodec, same(kerr.UnsupportedCompressionType)},
	{errAcks, same(kerr.InvalidRequiredAcks)},
	{errOldEpoch, same(kerr.FencedLeaderEpoch)},
	{errNewEpoch, same(kerr.UnknownLeaderEpoch)},
	{errUnsupported, same(kerr.UnsupportedVersion)},
	{errStorage, same(kerr.KafkaStorageError)},
	{broker.ErrCorrupt, same(kerr.InvalidRecord)}, // the log found damage that the door's checks did not
	{record.ErrMagic, same(kerr.InvalidRecord)},
	{record.ErrCorrupt, same(kerr.CorruptMessage)},
	{record.ErrShort, same(kerr.CorruptMessage)},
	{record.ErrTooLarge, same(kerr.MessageTooLarge)},

	{context.DeadlineExceeded, same(kerr.RequestTimedOut)},
	{context.Canceled, same(kerr.RequestTimedOut)}, // the client has gone
}

// The door's own errors.
var (
	errUnknownID     = errors.New("topic id is not known")
	errNoTransaction = errors.New("transactional record batch without a transactional id")
	errInvalidRecord = errors.New("not exactly one record batch of a producer")
	errCodec         = errors.New("zstd needs a newer version of the request")
	errAcks          = errors.New("acks is not -1, 0 or 1")
	errOldEpoch      = errors.New("leader epoch is older than this leader's")
	errNewEpoch      = errors.New("leader epoch is newer than this leader's")
	errSession       = errors.New("fetch sessions are not kept")
	errSessionEpoch  = errors.New("fetch session epoch without a session")
	errStorage       = errors.New("records at rest cannot be read")
	errUnsupported   = errors.New("not supported")
	errSubscribed    = errors.New("a member of the group subscribes to the topic")

	errNoQuotas          = errors.New("quotas are not known on this node")
	errNoACLs            = errors.New("ACLs are not enforced: start weir-cloud with --kafka-authorize")
	errFilter            = errors.New("filter has an unknown or an empty value")
	errInternalTopic     = errors.New("topic is Kafka's own: it can only be read")
	errTopicDenied       = errors.New("user is not allowed to use this topic")
	errGroupDenied       = errors.New("user is not allowed to use this group")
	errClusterDenied     = errors.New("user is not allowed to do this in the cluster")
	errTransactionDenied = errors.New("user is not allowed to use this transactional id")
)

// code returns the protocol's code of an error, 0 for none.
func code(err error, as role) int16 {
	if err == nil {
		return 0
	}
	var r refusal
	if errors.As(err, &r) {
		return r.code.Code
	}
	for i := range codes {
		if errors.Is(err, codes[i].err) {
			return codes[i].code[as].Code
		}
	}
	return kerr.UnknownServerError.Code
}

const maxMessage = 1000 // bytes: the protocol allows 32,767

// message returns the text of an error, for versions that have a field for it.
func message(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	if len(s) > maxMessage { // the text may contain names from the request
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return &s
}

// refusal is an error of the door with its own code, for the many ways in which a
// request to create a topic can be wrong.
type refusal struct {
	code *kerr.Error
	text string
}

func (r refusal) Error() string { return r.text }

func refused(code *kerr.Error, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}
