package txn

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// What nodes ask each other about transactions, in JSON. Names are bytes: they need not
// be UTF-8. Unknown fields are ignored.

// partQuestion asks whether something is part of a transaction.
type partQuestion struct {
	ID        []byte `json:"id"`
	Producer  int64  `json:"producer"`
	Epoch     int16  `json:"epoch"`
	Topic     []byte `json:"topic,omitempty"` // of 16 bytes
	Partition int32  `json:"partition,omitempty"`
	Group     []byte `json:"group,omitempty"`
	Implicit  bool   `json:"implicit,omitempty"`
}

// decisionQuestion asks to end a transaction in a shard.
type decisionQuestion struct {
	Shard    uint32           `json:"shard"`
	Producer int64            `json:"producer"`
	Epoch    int16            `json:"epoch"`
	Number   uint64           `json:"number"`
	Commit   bool             `json:"commit,omitempty"`
	Topics   []topicPartition `json:"topics,omitempty"`
	Groups   [][]byte         `json:"groups,omitempty"`
}

// topicPartition is some partitions of a topic.
type topicPartition struct {
	Topic      []byte  `json:"topic"` // of 16 bytes
	Partitions []int32 `json:"partitions"`
}

// answer is the number of a transaction, or an error.
type answer struct {
	Number uint64 `json:"number,omitempty"`
	Error  string `json:"error,omitempty"` // its name in errorNames
	Text   string `json:"text,omitempty"`  // of an error
}

// errorNames are the errors that keep their meaning on their way between nodes. Any other
// is ErrUnavailable on the other side. It is not changed.
var errorNames = []struct {
	name string
	err  error
}{
	{"invalid-id", ErrInvalidID},
	{"unknown-id", ErrUnknownID},
	{"fenced", ErrFenced},
	{"concurrent", ErrConcurrent},
	{"not-in-transaction", ErrNotInTransaction},
	{"too-large", ErrTooLarge},
}

// ErrQuestion means that another node's question cannot be read.
var ErrQuestion = errors.New("question about a transaction cannot be read")

// EncodePart encodes the question of Coordinator.Verify.
func EncodePart(p Part) []byte {
	q := partQuestion{ID: []byte(p.ID), Producer: p.Producer.ID, Epoch: p.Producer.Epoch, Group: []byte(p.Group), Implicit: p.Implicit}
	if p.Group == "" {
		q.Topic, q.Partition = p.Place.Topic[:], p.Place.Partition
	}
	return encode(q)
}

// DecodePart is the inverse of EncodePart. Errors: ErrQuestion.
func DecodePart(body []byte) (Part, error) {
	var q partQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return Part{}, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	p := Part{ID: string(q.ID), Producer: Producer{q.Producer, q.Epoch}, Group: string(q.Group), Implicit: q.Implicit}
	if p.Group != "" {
		return p, nil
	}
	if len(q.Topic) != len(weir.TopicID{}) || q.Partition < 0 {
		return Part{}, fmt.Errorf("%w: partition %d of topic %x", ErrQuestion, q.Partition, q.Topic)
	}
	p.Place = state.Place{Topic: weir.TopicID(q.Topic), Partition: q.Partition}
	return p, nil
}

// EncodeDecision encodes the question of Participant.End in a shard.
func EncodeDecision(shard uint32, d Decision) []byte {
	q := decisionQuestion{Shard: shard, Producer: d.Producer.ID, Epoch: d.Producer.Epoch, Number: d.Number, Commit: d.Commit}
	for _, p := range d.Places {
		if n := len(q.Topics); n == 0 || weir.TopicID(q.Topics[n-1].Topic) != p.Topic {
			q.Topics = append(q.Topics, topicPartition{Topic: slices.Clone(p.Topic[:])})
		}
		last := &q.Topics[len(q.Topics)-1]
		last.Partitions = append(last.Partitions, p.Partition)
	}
	for _, name := range d.Groups {
		q.Groups = append(q.Groups, []byte(name))
	}
	return encode(q)
}

// DecodeDecision is the inverse of EncodeDecision. Errors: ErrQuestion.
func DecodeDecision(body []byte) (shard uint32, d Decision, err error) {
	var q decisionQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return 0, Decision{}, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	d = Decision{Producer: Producer{q.Producer, q.Epoch}, Number: q.Number, Commit: q.Commit}
	if q.Producer < 0 || q.Epoch < 0 || q.Number == 0 {
		return 0, Decision{}, fmt.Errorf("%w: transaction %d of producer %v", ErrQuestion, q.Number, d.Producer)
	}
	for _, t := range q.Topics {
		if len(t.Topic) != len(weir.TopicID{}) {
			return 0, Decision{}, fmt.Errorf("%w: topic %x", ErrQuestion, t.Topic)
		}
		for _, p := range t.Partitions {
			if p < 0 {
				return 0, Decision{}, fmt.Errorf("%w: partition %d of topic %x", ErrQuestion, p, t.Topic)
			}
			d.Places = append(d.Places, state.Place{Topic: weir.TopicID(t.Topic), Partition: p})
		}
	}
	for _, name := range q.Groups {
		d.Groups = append(d.Groups, string(name))
	}
	return q.Shard, d, nil
}

// EncodeAnswer encodes what Verify or End has returned.
func EncodeAnswer(number uint64, err error) []byte {
	if err == nil {
		return encode(answer{Number: number})
	}
	a := answer{Error: "unavailable", Text: err.Error()}
	for _, known := range errorNames {
		if errors.Is(err, known.err) {
			a.Error = known.name
			break
		}
	}
	return encode(a)
}

// DecodeAnswer is the inverse of EncodeAnswer. Errors that have no name there, and an
// answer that cannot be read, are ErrUnavailable.
func DecodeAnswer(body []byte) (number uint64, err error) {
	var a answer
	switch err := json.Unmarshal(body, &a); {
	case err != nil:
		return 0, fmt.Errorf("%w: answer about a transaction cannot be read: %w", ErrUnavailable, err)
	case a.Error == "":
		return a.Number, nil
	}
	for _, known := range errorNames {
		if a.Error == known.name {
			return 0, known.err
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrUnavailable, a.Text)
}

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode numbers and bytes: %v", err))
	}
	return body
}
