package txn

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
)

func TestQuestions(t *testing.T) {
	for _, want := range []Part{
		{ID: "a\xff", Producer: Producer{1 << 60, 32766}, Place: state.Place{Topic: topicA, Partition: 1<<31 - 1}},
		{ID: "b", Producer: Producer{0, 0}, Place: b0, Implicit: true},
		{ID: "c", Producer: NoProducer, Group: "\x00\xfe"},
	} {
		if got, err := DecodePart(EncodePart(want)); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	for _, want := range []Decision{
		{Producer: Producer{1, 2}, Number: 1<<64 - 1, Commit: true, Places: []state.Place{a0, a1, b0}, Groups: []string{"g", "\xff"}},
		{Producer: Producer{3, 4}, Number: 1},
	} {
		if shard, got, err := DecodeDecision(EncodeDecision(1<<32-1, want)); err != nil || shard != 1<<32-1 || !reflect.DeepEqual(got, want) {
			t.Errorf("%d, %+v, %v, want %+v", shard, got, err, want)
		}
	}
}

func TestBadQuestions(t *testing.T) {
	for _, bad := range []string{"", "{}", `{"id":"YQ==","topic":"YQ=="}`, `{"id":"YQ==","topic":"AAAAAAAAAAAAAAAAAAAAAA==","partition":-1}`, "[]"} {
		if p, err := DecodePart([]byte(bad)); !errors.Is(err, ErrQuestion) {
			t.Errorf("%s: %+v, %v", bad, p, err)
		}
	}
	for _, bad := range []string{"", "{}", `{"number":1,"producer":-1}`, `{"number":1,"epoch":-1}`, `{"number":1,"topics":[{"topic":"YQ==","partitions":[1]}]}`,
		`{"number":1,"topics":[{"topic":"AAAAAAAAAAAAAAAAAAAAAA==","partitions":[-1]}]}`} {
		if _, d, err := DecodeDecision([]byte(bad)); !errors.Is(err, ErrQuestion) {
			t.Errorf("%s: %+v, %v", bad, d, err)
		}
	}
}

// TestAnswers: an answer of a coordinator means the same on another node; whatever else
// went wrong there means that it could not answer.
func TestAnswers(t *testing.T) {
	if n, err := DecodeAnswer(EncodeAnswer(7, nil)); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, want := range decisive {
		if n, err := DecodeAnswer(EncodeAnswer(7, fmt.Errorf("ask: %w", want))); n != 0 || !errors.Is(err, want) {
			t.Errorf("%d, %v, want %v", n, err, want)
		}
	}
	for _, body := range [][]byte{EncodeAnswer(0, errAway), EncodeAnswer(0, ErrClosed), []byte(`{"error":"of a later version"}`), []byte("?")} {
		if _, err := DecodeAnswer(body); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func FuzzQuestions(f *testing.F) {
	f.Add(EncodePart(Part{ID: "a", Place: b0}))
	f.Add(EncodeDecision(1, Decision{Producer: Producer{1, 2}, Number: 3, Places: []state.Place{a0, a1, b0}, Groups: []string{"g"}}))
	f.Add(EncodeAnswer(1, nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, err := DecodePart(body); err == nil {
			if again, err := DecodePart(EncodePart(p)); err != nil || again != p {
				t.Errorf("%+v becomes %+v, %v", p, again, err)
			}
		}
		if shard, d, err := DecodeDecision(body); err == nil {
			if s, again, err := DecodeDecision(EncodeDecision(shard, d)); err != nil || s != shard || !reflect.DeepEqual(again, d) {
				t.Errorf("%+v becomes %+v, %v", d, again, err)
			}
		}
		if _, err := DecodeAnswer(body); err != nil && !errors.Is(err, ErrUnavailable) {
			for _, known := range errorNames {
				if errors.Is(err, known.err) {
					return
				}
			}
			t.Error(err)
		}
	})
}
