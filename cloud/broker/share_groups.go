package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/cloud/share"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Acquire gives a member of a share group records of a partition.
func (b *Broker) Acquire(ctx context.Context, r share.Request) (share.Acquired, error) {
	s, err := b.at(weir.SliceOf(r.Topic, r.Partition))
	if err != nil {
		return share.Acquired{}, err
	}
	if err := b.open(ctx, s, r.Topic, r.Partition); err != nil {
		return share.Acquired{}, err
	}
	a, err := s.Shares.Acquire(ctx, r)
	return a, translateShare(err)
}

// Acknowledge takes a member's verdicts on records that it has acquired. done is called
// once, when they are durable or refused; it must not block.
func (b *Broker) Acknowledge(at share.Place, member string, all []share.Acknowledgement, done func(error)) {
	s, err := b.at(weir.SliceOf(at.Topic, at.Partition))
	if err != nil {
		done(err)
		return
	}
	s.Shares.Acknowledge(at, member, all, func(err error) { done(translateShare(err)) })
}

// LeaveShares makes records available that a member has acquired on this node. It
// returns when that is durable.
func (b *Broker) LeaveShares(ctx context.Context, name, member string) error {
	shards, err := b.owned()
	if err != nil {
		return err
	}
	results := make(chan error, len(shards))
	for _, s := range shards {
		s.Shares.Leave(name, member, func(err error) { results <- err })
	}
	for range shards {
		select {
		case failed := <-results:
			err = errors.Join(err, translateShare(failed))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// BeginShare is Records.BeginShare for a partition that this node serves.
func (b *Broker) BeginShare(ctx context.Context, at share.Place, offset int64) error {
	s, err := b.at(weir.SliceOf(at.Topic, at.Partition))
	if err != nil {
		return err
	}
	if err := b.open(ctx, s, at.Topic, at.Partition); err != nil {
		return err
	}
	return translateShare(s.Shares.Begin(ctx, at, offset))
}

// listings lists the groups of types that have members, of the shards that this node serves.
func (b *Broker) listings() ([]group.Listing, error) {
	shards, err := b.owned()
	if err != nil {
		return nil, err
	}
	var all []group.Listing
	for _, s := range shards {
		some, err := s.Groups.List()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// shareNames lists the groups that share partitions which this node serves.
func (b *Broker) shareNames() ([]string, error) {
	shards, err := b.owned()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, s := range shards {
		names, err := s.Shares.Groups()
		if err != nil {
			return nil, translateShare(err)
		}
		all = append(all, names...)
	}
	return all, nil
}

func emptyShare(name string) group.Listing {
	return group.Listing{Group: name, Type: group.Share, ProtocolType: group.ShareProtocol, State: group.Empty}
}

// translateShare is translate for errors of share groups.
func translateShare(err error) error {
	if errors.Is(err, share.ErrClosed) {
		return errors.Join(ErrNotOwner, err)
	}
	return translate(err)
}

// The settings of share groups (KIP-932).
const (
	shareReset       = "share.auto.offset.reset"
	shareDeadLetters = "errors.deadletterqueue.topic.name"
	shareCopyDead    = "errors.deadletterqueue.copy.record.enable"
	shareDeliveries  = "share.delivery.count.limit"
	shareHeartbeat   = "share.heartbeat.interval.ms"
	shareIsolation   = "share.isolation.level"
	shareLocks       = "share.partition.max.record.locks"
	shareLock        = "share.record.lock.duration.ms"
	shareSession     = "share.session.timeout.ms"
)

// resets says where a share group begins: "latest", "earliest", or "by_duration:" and a
// duration as in ISO 8601 (KIP-1106).
var resets = rule{"latest, earliest or by_duration: and a duration such as PT1H30M or P7D", func(v string) bool {
	_, ok := parseReset(v)
	return ok
}}

var isoDuration = regexp.MustCompile(`^by_duration:P(?:(\d{1,5})D)?(?:T(?:(\d{1,7})H)?(?:(\d{1,9})M)?(?:(\d{1,9})S)?)?$`)

func parseReset(v string) (s share.Settings, ok bool) {
	switch v {
	case "latest":
		return s, true
	case "earliest":
		s.Earliest = true
		return s, true
	}
	parts := isoDuration.FindStringSubmatch(v)
	if parts == nil {
		return s, false
	}
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseInt("0"+parts[i+1], 10, 64)
		if err != nil || n > int64(math.MaxInt64/4/unit) {
			return s, false
		}
		s.Since += time.Duration(n) * unit
	}
	return s, s.Since > 0
}

// ShareSettings returns a function that returns the settings of a share group, for
// share.Options. changed returns the settings that clients have changed, nil while they
// are not known; node is the number of this one, which has defaults of topics.
func ShareSettings(changed func() *settings.Settings, node int32) func(group string) share.Settings {
	return func(group string) share.Settings {
		s := changed()
		if s == nil {
			return share.Settings{}
		}
		values := s.Of(settings.Resource{Kind: settings.Group, Name: group})
		if len(values) == 0 {
			return share.Settings{}
		}
		number := func(name string) int64 {
			n, err := strconv.ParseInt(values[name], 10, 64)
			if err != nil {
				return 0 // not set
			}
			return n
		}
		result, _ := parseReset(values[shareReset])
		result.Committed = values[shareIsolation] == "read_committed"
		result.Lock = time.Duration(number(shareLock)) * time.Millisecond
		result.Deliveries, result.Locks = int(number(shareDeliveries)), int(number(shareLocks))
		result.DeadLetters, result.CopyDead = values[shareDeadLetters], values[shareCopyDead] == "true"
		if result.DeadLetters != "" {
			if n, err := strconv.Atoi(TopicDefaults(s, node)[maxMessageBytes]); err == nil { // else it is not set
				result.BatchBytes = n
			}
		}
		return result
	}
}

// deadLetterPrefix begins the names of topics for dead letters, as by default in KIP-1191:
// so that a group cannot be made to write to any other topic.
const deadLetterPrefix = "dlq."

var deadLetterTopics = rule{"empty, or the name of a topic that begins with " + deadLetterPrefix, func(v string) bool {
	return v == "" || strings.HasPrefix(v, deadLetterPrefix) && logstate.CheckTopicName(v) == nil
}}

// ShareLock returns how long a member of a share group has a record that it acquires.
func (b *Broker) ShareLock(name string) time.Duration {
	ms := int64(0)
	s, err := settingOf(groupSettings, shareLock)
	if err == nil {
		ms, err = strconv.ParseInt(s.Default, 10, 64)
	}
	if values, failed := b.GroupValues(name); failed == nil && err == nil {
		if n, err := strconv.ParseInt(values[shareLock], 10, 64); err == nil {
			ms = n
		}
	}
	return time.Duration(ms) * time.Millisecond
}

func checkShare(values map[string]string) error {
	if session, heartbeat := timeoutsOf(values, shareSession, shareHeartbeat); heartbeat >= session {
		return fmt.Errorf("%w: %s, %v, must be less than %s, %v", ErrInvalidConfig, shareHeartbeat, heartbeat, shareSession, session)
	}
	return nil
}
