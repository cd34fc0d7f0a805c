package group

import "errors"

// The coordinator's errors. Each has exactly one Kafka error code; the door's table
// maps them.
var (
	ErrClosed               = errors.New("group coordinator is closed")                          // not, or no longer, the owner
	ErrInvalidGroup         = errors.New("group id is empty or too long")                        // INVALID_GROUP_ID
	ErrInvalidName          = errors.New("a name is too long")                                   // INVALID_REQUEST
	ErrUnknownGroup         = errors.New("group does not exist")                                 // GROUP_ID_NOT_FOUND
	ErrGroupNotEmpty        = errors.New("group has members")                                    // NON_EMPTY_GROUP
	ErrTooManyGroups        = errors.New("too many groups")                                      // POLICY_VIOLATION
	ErrGroupFull            = errors.New("no room for more members")                             // GROUP_MAX_SIZE_REACHED
	ErrUnknownMember        = errors.New("group does not know the member")                       // UNKNOWN_MEMBER_ID
	ErrMemberIDRequired     = errors.New("join again with the member id given")                  // MEMBER_ID_REQUIRED
	ErrFencedInstance       = errors.New("another member has taken over this group instance id") // FENCED_INSTANCE_ID
	ErrIllegalGeneration    = errors.New("generation is not the group's current one")            // ILLEGAL_GENERATION
	ErrRebalanceInProgress  = errors.New("group is rebalancing")                                 // REBALANCE_IN_PROGRESS
	ErrInconsistentProtocol = errors.New("protocol type or protocols do not fit the group's")    // INCONSISTENT_GROUP_PROTOCOL
	ErrInvalidSession       = errors.New("session timeout is outside the allowed range")         // INVALID_SESSION_TIMEOUT
	ErrMetadataTooLarge     = errors.New("offset metadata is too large")                         // OFFSET_METADATA_TOO_LARGE
	ErrInvalidHeartbeat     = errors.New("heartbeat is not valid")                               // INVALID_REQUEST
	ErrInvalidPattern       = errors.New("regular expression is not valid")                      // INVALID_REGULAR_EXPRESSION
	ErrUnsupportedAssignor  = errors.New("assignor is not known")                                // UNSUPPORTED_ASSIGNOR
	ErrFencedEpoch          = errors.New("member epoch is not the member's")                     // FENCED_MEMBER_EPOCH
	ErrStaleEpoch           = errors.New("member epoch is not the member's current one")         // STALE_MEMBER_EPOCH
	ErrUnreleasedInstance   = errors.New("group instance id still belongs to another member")    // UNRELEASED_INSTANCE_ID
	ErrCorrupt              = errors.New("group entry is corrupt")                               // an entry of the log that cannot be decoded
)
