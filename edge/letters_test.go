package edge

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
)

// refusedMessage is a message that is refused for good.
func refusedMessage(client string, size int) *mqtt.Message {
	m := messages("$SYS/x")[0]
	m.ClientID, m.Payload = client, make([]byte, size)
	m.Refused = &mqtt.Refusal{Reason: "topics below $SYS belong to the broker", Size: int64(size)}
	return m
}

// TestLetters: refused letters are stored with the batch that they come in, take no
// sequence of the log, and are found by their place after a restart.
func TestLetters(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	all := append(messages("live/1"), refusedMessage("c", 3), messages("live/2")[0], refusedMessage("d", 3))
	batch, places, errs := accept(b, all)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if places[2].seq != places[0].seq+1 {
		t.Errorf("places %v", places)
	}
	if stored(b, places[1]) {
		t.Error("a letter is stored before Store")
	}
	if err := store(b, batch); err != nil {
		t.Fatal(err)
	}
	for i, p := range places {
		if !stored(b, p) {
			t.Errorf("message %d is not stored", i)
		}
	}
}

// TestRecordTooLarge: what fits into no record is refused alone, and for good; the rest of
// its batch is stored.
func TestRecordTooLarge(t *testing.T) {
	b := newTestBackend(t, wal.Options{})
	large := messages("live/large", "live/headers", "live/good")
	large[0].Payload = make([]byte, maxRecord)
	large[1].Version = 5
	large[1].Properties.User = make([]mqtt.UserProperty, 20_000)
	batch, places, errs := accept(b, large)
	for i, err := range errs[:2] {
		if !errors.Is(err, mqtt.ErrTooLarge) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if errs[2] != nil {
		t.Fatal(errs[2])
	}
	if err := store(b, batch); err != nil {
		t.Fatal(err)
	}
	if !stored(b, places[2]) {
		t.Error("the good one is not stored")
	}
}

// TestEvictionIsReported: letters evicted for newer ones become a gap in the live lane, which
// the cloud writes to weir.gaps. If there is no room for the gap, the newer letter is refused
// as on a full disk.
func TestEvictionIsReported(t *testing.T) {
	b := newTestBackend(t, wal.Options{LetterQuota: 256 << 10, ClientLetters: 64 << 10})
	var reports []string
	for range 40 {
		batch, places, errs := accept(b, []*mqtt.Message{refusedMessage("loud", 8000)})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
		if err := store(b, batch); err != nil {
			t.Fatal(err)
		}
		if !stored(b, places[0]) {
			t.Fatal("not stored")
		}
	}
	up := uplink{Log: b.log}
	id, _ := b.log.Position(weir.Live)
	last := b.log.Last(id, weir.Live)
	for from := uint64(1); from <= last; {
		items, err := up.Read(id, weir.Lane(weir.Live), from)
		if err != nil || len(items) == 0 {
			t.Fatalf("read %d: %v", from, err)
		}
		for _, item := range items {
			if item.Gap == nil || item.Topic != "" || item.Gap.First != item.Seq || item.Gap.Last != item.Seq || !item.Gap.Exact {
				t.Fatalf("item %+v", item)
			}
			reports = append(reports, item.Gap.Reason)
			from = item.Seq + 1
		}
	}
	var told, n uint64
	for _, r := range reports {
		if _, err := fmt.Sscanf(r, `%d refused letters of client "loud" gave way`, &n); err != nil {
			t.Fatalf("report %q: %v", r, err)
		}
		told += n
	}
	s, err := b.log.Letters().Stats()
	if err != nil || told == 0 || told != s.Evicted || s.Letters+told != 40 {
		t.Errorf("told %d, stats %+v %v", told, s, err)
	}
}

// TestLettersOnAFullDisk: without room for letters they are refused like any message.
func TestLettersOnAFullDisk(t *testing.T) {
	b := newTestBackend(t, wal.Options{LetterQuota: 64 << 10, ClientLetters: 32 << 10, Quota: 64 << 10})
	for i := 0; ; i++ { // fill the log
		batch, _, errs := accept(b, messages(fmt.Sprint("live/", i)))
		if errs[0] != nil {
			break
		}
		if err := store(b, batch); err != nil {
			t.Fatal(err)
		}
	}
	refused := false
	for i := range 100 {
		batch, _, errs := accept(b, []*mqtt.Message{refusedMessage("c", 2000)})
		if errs[0] != nil {
			if !errors.Is(errs[0], mqtt.ErrFull) {
				t.Fatal(errs[0])
			}
			refused = true
			break
		}
		if err := store(b, batch); err != nil {
			t.Fatalf("letter %d: %v", i, err)
		}
	}
	if !refused {
		t.Error("letters gave way without a report")
	}
}

// TestRefusedLettersAreListed: /dead-letters has them behind what the cloud refused.
func TestRefusedLettersAreListed(t *testing.T) {
	log := openLog(t, wal.Options{})
	if err := log.AddDead(log.Current(), weir.Live, []wal.Item{{Seq: 1, Record: wal.Record{Topic: "t"}}}, "too-large"); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("whole"))
	if err := log.Letters().Add([]wal.Letter{{Seq: 1, Client: "pump", Topic: "$SYS/x", QoS: 0, Reason: "reserved",
		Payload: []byte("who"), Size: 5, Hash: sum[:]}}); err != nil {
		t.Fatal(err)
	}
	e := &Edge{log: log}
	own := admin.NewToken()
	guard := e.status(admin.New(admin.Options{Service: "weir-edge", Own: own}), true)
	ask := func(query string) []string {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "http://localhost/dead-letters"+query, nil)
		r.Header.Set("Authorization", "Bearer "+own)
		guard.ServeHTTP(w, r)
		return strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	}
	lines := ask("")
	if len(lines) != 2 {
		t.Fatalf("lines %q", lines)
	}
	var cloud, own2 DeadLetter
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &cloud), json.Unmarshal([]byte(lines[1]), &own2)); err != nil {
		t.Fatal(err)
	}
	if cloud.Kind != RefusedByCloud || cloud.Topic != "t" {
		t.Errorf("%+v", cloud)
	}
	if own2.Kind != RefusedByGateway || own2.Client != "pump" || own2.Topic != "$SYS/x" || own2.Reason != "reserved" || own2.QoS == nil ||
		*own2.QoS != 0 || own2.Size != 5 || string(own2.Value) != "who" || own2.SHA256 != fmt.Sprintf("%x", sum) {
		t.Errorf("%+v", own2)
	}
	if rest := ask("?skip=1"); len(rest) != 1 || rest[0] != lines[1] {
		t.Errorf("skip 1: %q", rest)
	}
}
