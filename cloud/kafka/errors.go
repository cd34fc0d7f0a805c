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
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/record"
)

// role is what a request takes this node for: the error that sends a client to
// another node depends on it.
type role int

const (
	leader      role = iota // of a partition
	coordinator             // of a group
	controller              // of the cluster
	allocator               // of producer ids: here clients know no place to look for another
)

// codes is the one table from errors to the codes of the protocol. The first row
// that matches counts.
func codes(as role) []struct {
	err  error
	code *kerr.Error
} {
	elsewhere := []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotCoordinator, kerr.NotController, kerr.CoordinatorLoadInProgress}[as]
	later := []*kerr.Error{kerr.LeaderNotAvailable, kerr.CoordinatorNotAvailable, kerr.RequestTimedOut, kerr.CoordinatorLoadInProgress}[as]
	return []struct {
		err  error
		code *kerr.Error
	}{
		{broker.ErrNotOwner, elsewhere},
		{broker.ErrUnavailable, later},
		{broker.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
		{broker.ErrTopicExists, kerr.TopicAlreadyExists},
		{broker.ErrInvalidTopic, kerr.InvalidTopicException},
		{broker.ErrInvalidPartitions, kerr.InvalidPartitions},
		{broker.ErrInvalidConfig, kerr.InvalidConfig},
		{broker.ErrFixed, kerr.InvalidRequest},
		{settings.ErrInvalid, kerr.InvalidConfig},
		{settings.ErrTooMany, kerr.PolicyViolation},
		{settings.ErrLevel, kerr.PolicyViolation},
		{broker.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
		{broker.ErrTooLarge, kerr.MessageTooLarge},
		{broker.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{broker.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
		{broker.ErrUnsupported, kerr.InvalidRecord},
		{broker.ErrProducerFenced, kerr.InvalidProducerEpoch},
		{broker.ErrUnknownProducer, kerr.UnknownProducerID},
		{broker.ErrTransactionOpen, kerr.InvalidTxnState},

		{group.ErrUnavailable, elsewhere},
		{group.ErrClosed, elsewhere},
		{group.ErrInvalidGroup, kerr.InvalidGroupID},
		{group.ErrUnknownGroup, kerr.GroupIDNotFound},
		{group.ErrGroupNotEmpty, kerr.NonEmptyGroup},
		{group.ErrTooManyGroups, kerr.PolicyViolation},
		{group.ErrInvalidName, kerr.InvalidRequest},
		{group.ErrGroupFull, kerr.GroupMaxSizeReached},
		{group.ErrUnknownMember, kerr.UnknownMemberID},
		{group.ErrMemberIDRequired, kerr.MemberIDRequired},
		{group.ErrFencedInstance, kerr.FencedInstanceID},
		{group.ErrIllegalGeneration, kerr.IllegalGeneration},
		{group.ErrRebalanceInProgress, kerr.RebalanceInProgress},
		{group.ErrInconsistentProtocol, kerr.InconsistentGroupProtocol},
		{group.ErrInvalidSession, kerr.InvalidSessionTimeout},
		{group.ErrMetadataTooLarge, kerr.OffsetMetadataTooLarge},
		{group.ErrInvalidHeartbeat, kerr.InvalidRequest},
		{group.ErrInvalidPattern, kerr.InvalidRegularExpression},
		{group.ErrUnsupportedAssignor, kerr.UnsupportedAssignor},
		{group.ErrFencedEpoch, kerr.FencedMemberEpoch},
		{group.ErrStaleEpoch, kerr.StaleMemberEpoch},
		{group.ErrUnreleasedInstance, kerr.UnreleasedInstanceID},

		{txn.ErrUnavailable, elsewhere},
		{txn.ErrClosed, elsewhere},
		{txn.ErrInvalidID, kerr.InvalidRequest},
		{txn.ErrInvalidTimeout, kerr.InvalidTransactionTimeout},
		{txn.ErrUnknownID, kerr.InvalidProducerIDMapping},
		{txn.ErrNotFound, kerr.TransactionalIDNotFound},
		{txn.ErrFenced, kerr.ProducerFenced}, // olderCode
		{txn.ErrConcurrent, kerr.ConcurrentTransactions},
		{txn.ErrInvalidState, kerr.InvalidTxnState},
		{txn.ErrNotInTransaction, kerr.TransactionAbortable}, // olderCode
		{txn.ErrTooLarge, kerr.PolicyViolation},
		{txn.ErrTooManyIDs, kerr.PolicyViolation},

		{broker.ErrFenced, elsewhere},
		{broker.ErrClosed, elsewhere},
		{auth.ErrInvalid, kerr.InvalidRequest},
		{auth.ErrTooMany, kerr.PolicyViolation},
		{auth.ErrUnknownUser, kerr.ResourceNotFound},
		{auth.ErrLevel, kerr.UnsupportedVersion},
		{quota.ErrInvalid, kerr.InvalidRequest},
		{quota.ErrTooMany, kerr.PolicyViolation},
		{errNoQuotas, elsewhere},
		{errNoACLs, kerr.SecurityDisabled},
		{errFilter, kerr.InvalidRequest},
		{errInternalTopic, kerr.TopicAuthorizationFailed},
		{errTopicDenied, kerr.TopicAuthorizationFailed},
		{errGroupDenied, kerr.GroupAuthorizationFailed},
		{errClusterDenied, kerr.ClusterAuthorizationFailed},
		{errTransactionDenied, kerr.TransactionalIDAuthorizationFailed},

		{errSubscribed, kerr.GroupSubscribedToTopic},

		{errSession, kerr.FetchSessionIDNotFound},
		{errSessionEpoch, kerr.InvalidFetchSessionEpoch},
		{errUnknownID, kerr.UnknownTopicID},
		{errNoTransaction, kerr.TransactionalIDAuthorizationFailed},
		{errInvalidRecord, kerr.InvalidRecord},
		{errCodec, kerr.UnsupportedCompressionType},
		{errAcks, kerr.InvalidRequiredAcks},
		{errOldEpoch, kerr.FencedLeaderEpoch},
		{errNewEpoch, kerr.UnknownLeaderEpoch},
		{errUnsupported, kerr.UnsupportedVersion},
		{errStorage, kerr.KafkaStorageError},
		{broker.ErrCorrupt, kerr.InvalidRecord}, // the log found what the door's look at the batch did not
		{record.ErrMagic, kerr.InvalidRecord},
		{record.ErrCorrupt, kerr.CorruptMessage},
		{record.ErrShort, kerr.CorruptMessage},
		{record.ErrTooLarge, kerr.MessageTooLarge},

		{context.DeadlineExceeded, kerr.RequestTimedOut},
		{context.Canceled, kerr.RequestTimedOut}, // nobody is there to read it
	}
}

// The door's own reasons.
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
	errNoACLs            = errors.New("ACLs do not count here: start weir-cloud with --kafka-authorize")
	errFilter            = errors.New("filter has an unknown or an empty value")
	errInternalTopic     = errors.New("topic is Kafka's own: it can only be read")
	errTopicDenied       = errors.New("topic is not for this user")
	errGroupDenied       = errors.New("group is not for this user")
	errClusterDenied     = errors.New("cluster is not for this user to do that to")
	errTransactionDenied = errors.New("transactional id is not for this user")
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
	for _, row := range codes(as) {
		if errors.Is(err, row.err) {
			return row.code.Code
		}
	}
	return kerr.UnknownServerError.Code
}

const maxMessage = 1000 // bytes: the protocol allows 32,767

// message returns the text for the versions that carry one.
func message(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	if len(s) > maxMessage { // it may hold names from the request
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return &s
}

// refusal is an error of the door that names its code itself, for the many ways
// in which a request to create a topic can be wrong.
type refusal struct {
	code *kerr.Error
	text string
}

func (r refusal) Error() string { return r.text }

func refused(code *kerr.Error, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}
