package broker

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// records builds a batch with one record for each.
func records(t *testing.T, codec record.Codec, rs ...record.Record) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for i := range rs {
		if err := b.Append(&rs[i]); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAdmit(t *testing.T) {
	const now = 1_700_000_000_000
	at := func(ms int64) record.Batch {
		return records(t, record.None, record.Record{Timestamp: now, Key: []byte("k")}, record.Record{Timestamp: ms, Key: []byte("k")})
	}
	damaged := at(now)
	damaged[len(damaged)-3] ^= 1 // the key: the records still decode
	for what, c := range map[string]struct {
		configs map[string]string
		append  Append
		want    error
	}{
		"any time":             {nil, Append{Batch: at(1)}, nil},
		"just early enough":    {map[string]string{timestampBefore: "1000"}, Append{Batch: at(now - 1000)}, nil},
		"too early":            {map[string]string{timestampBefore: "1000"}, Append{Batch: at(now - 1001)}, ErrInvalidTimestamp},
		"just late enough":     {map[string]string{timestampAfter: "1000"}, Append{Batch: at(now + 1000)}, nil},
		"too late":             {map[string]string{timestampAfter: "1000"}, Append{Batch: at(now + 1001)}, ErrInvalidTimestamp},
		"never late":           {map[string]string{timestampBefore: "0"}, Append{Batch: at(now + 1001)}, nil},
		"no time":              {map[string]string{timestampBefore: "0"}, Append{Batch: at(-1)}, nil},
		"largest limit":        {map[string]string{timestampBefore: forever, timestampAfter: forever}, Append{Batch: at(1)}, nil},
		"time of the append":   {map[string]string{timestampBefore: "0", timestampType: logAppendTime}, Append{Batch: at(1)}, nil},
		"gateway's time":       {map[string]string{timestampBefore: "0"}, Append{Batch: at(1), Source: &Source{}}, nil},
		"no key":               {map[string]string{"cleanup.policy": "delete, compact"}, Append{Batch: batch(t, 1)}, ErrCorrupt},
		"gateway without keys": {map[string]string{"cleanup.policy": "compact"}, Append{Batch: batch(t, 1), Source: &Source{}}, nil},
		"damaged":              {map[string]string{"cleanup.policy": "compact", compressionType: "gzip"}, Append{Batch: damaged}, nil}, // the log says so
		"no batch":             {map[string]string{"cleanup.policy": "compact", compressionType: "gzip"}, Append{}, nil},
		"too large":            {map[string]string{maxMessageBytes: "70"}, Append{Batch: at(now)}, ErrTooLarge},
		"as large as may be":   {map[string]string{maxMessageBytes: "81"}, Append{Batch: at(now)}, nil},
		"grows too large":      {map[string]string{maxMessageBytes: "1000", compressionType: "uncompressed"}, Append{Batch: records(t, record.Gzip, record.Record{Value: make([]byte, 5000)})}, ErrTooLarge},
	} {
		a := c.append
		err := admit(Topic{Configs: c.configs}, &a, time.UnixMilli(now))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if what == "damaged" && &a.Batch[0] != &damaged[0] {
			t.Error("a damaged batch has got a CRC that is right")
		}
		if want := c.configs[timestampType] == logAppendTime; a.AppendTime != want {
			t.Errorf("%s: append time %v", what, a.AppendTime)
		}
	}
}

// TestRefusedRecords: all of them are named, and the first ones explained.
func TestRefusedRecords(t *testing.T) {
	rs := make([]record.Record, 3*explained)
	for i := range rs {
		if i%2 == 0 {
			rs[i].Key = []byte("k")
		}
	}
	a := Append{Batch: records(t, record.Gzip, rs...)}
	var refused *RecordsError
	if err := admit(Topic{Configs: map[string]string{"cleanup.policy": "compact"}}, &a, time.UnixMilli(0)); !errors.As(err, &refused) || len(refused.Records) != len(rs)/2 {
		t.Fatal(err)
	}
	for i, r := range refused.Records {
		if int(r.Index) != 2*i+1 || (r.Text != "") != (i < explained) {
			t.Errorf("%d: %+v", i, r)
		}
	}
}

// TestCompressionType: each codec becomes each other one, and the batch means what
// it meant.
func TestCompressionType(t *testing.T) {
	now := time.Now()
	content := strings.Repeat("lorem ipsum ", 300)
	for value, codec := range codecs {
		topic := Topic{Configs: map[string]string{compressionType: value}}
		for _, from := range codecs {
			b := record.NewBuilder(from)
			b.SetProducer(7, 3, 41)
			for i := range 5 {
				r := record.Record{Timestamp: int64(1000 - i), Key: []byte{byte(i)}, Value: []byte(content), Headers: []record.Header{{Key: "h"}}}
				if err := b.Append(&r); err != nil {
					t.Fatal(err)
				}
			}
			before, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			a := Append{Batch: before}
			if err := admit(topic, &a, now); err != nil {
				t.Fatal(err)
			}
			after := a.Batch
			if err := errors.Join(after.Verify(), after.VerifyRecords(maxInflated)); err != nil {
				t.Fatal(err)
			}
			if after.Codec() != codec || after.ProducerID() != 7 || after.ProducerEpoch() != 3 || after.BaseSequence() != 41 ||
				after.Count() != 5 || after.BaseTimestamp() != 1000 || after.MaxTimestamp() != 1000 {
				t.Errorf("%v to %s: codec %v, producer %d %d %d", from, value, after.Codec(), after.ProducerID(), after.ProducerEpoch(), after.BaseSequence())
			}
			if from == codec && &after[0] != &before[0] {
				t.Errorf("%v is compressed again", from)
			}
			i := 0
			if err := after.Each(maxInflated, func(r *record.Record) error {
				if r.Timestamp != int64(1000-i) || r.Key[0] != byte(i) || string(r.Value) != content || len(r.Headers) != 1 {
					t.Errorf("%v to %s: record %d became %+v", from, value, i, r)
				}
				i++
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What compression would make larger stays plain.
	noise := make([]byte, 1000)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(noise)
	a := Append{Batch: records(t, record.None, record.Record{Value: noise})}
	if err := admit(Topic{Configs: map[string]string{compressionType: "lz4"}}, &a, now); err != nil || a.Batch.Codec() != record.None {
		t.Errorf("noise: %v, %v", a.Batch.Codec(), err)
	}
}

// TestAlteredAtOnce: the next append after a change goes by the new settings.
func TestAlteredAtOnce(t *testing.T) {
	b := newBroker(Options{})
	lead(t, b, mem.New())
	topic, err := b.CreateTopic(t.Context(), "t", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		value string
		want  error
	}{{"100", ErrTooLarge}, {"1000", nil}, {"100", ErrTooLarge}} {
		err := b.AlterTopic(t.Context(), topic.ID, func(configs map[string]string) error {
			configs[maxMessageBytes] = step.value
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := appendTo(b, Append{Topic: topic.ID, Batch: batch(t, 200)}); !errors.Is(err, step.want) {
			t.Errorf("with %s: %v, want %v", step.value, err, step.want)
		}
	}
}
