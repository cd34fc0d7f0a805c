package open_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/hdfs/hdfstest"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
	"github.com/weirmq/weir/storage/storagetest"
)

// step is something that the commit log does to the bucket: the first such call
// of an owner's life.
type step struct {
	name  string
	owner int    // 1 or 2
	since string // this was said; empty: from the beginning
	verb  storagetest.Verb
	key   *regexp.Regexp // of the first key
}

// steps are the durable ones, in the order of the play. The object that raises
// the format is not among them: there is no level yet that an owner would write
// at. TestRaiseUnderFaults in commitlog has its rows. Nor is the closing: these owners
// are fenced before they close. TestFaultMatrix in journal has its rows.
func steps() []step {
	slot := func(epoch, slot string) *regexp.Regexp {
		return regexp.MustCompile(`/log/0*` + epoch + `/` + slot + `$`)
	}
	of := regexp.MustCompile
	return []step{
		{"cluster", 1, "", storagetest.Create, of(`^cluster$`)},
		{"slot", 1, "three passes", storagetest.Create, slot("1", `\d+`)},
		{"segment", 1, "topic deleted", storagetest.Create, of(`/segment/`)},
		{"checkpoint", 1, "two passes", storagetest.Create, of(`/checkpoint/`)},
		{"checkpoint deleted", 1, "", storagetest.Delete, of(`/checkpoint/`)},
		{"tombstone", 1, "", storagetest.Create, of(`/tombstone/`)},
		{"slots deleted", 1, "", storagetest.Delete, of(`/log/`)},
		{"segment deleted", 1, "", storagetest.Delete, of(`/segment/`)},
		{"claim", 2, "", storagetest.Create, of(`/epoch/`)},
		{"seal", 2, "", storagetest.Create, slot("1", `\d+`)},
		{"header", 2, "", storagetest.Create, slot("[2-9]", `0+`)},
	}
}

// is says whether a call is the step's.
func (s step) is(verb storagetest.Verb, keys []string) bool {
	return s.verb == verb && s.key.MatchString(keys[0])
}

// row is one line of the matrix: what becomes of the step's call, and whether the
// process that makes it then stops, as by SIGSTOP, until another one has taken
// over.
type row struct {
	step   step
	fate   storagetest.Fate
	sleeps bool
	lied   bool // the bucket says that it is done and does nothing
}

func (r row) String() string {
	if r.lied {
		return r.step.name + " not done"
	}
	name := fmt.Sprint(r.step.name, " ", r.fate)
	if r.sleeps {
		name += " asleep"
	}
	return strings.ReplaceAll(name, " ", "-")
}

func rows() []row {
	var all []row
	for _, s := range steps() {
		for _, fate := range []storagetest.Fate{storagetest.Fail, storagetest.Applied, storagetest.Late} {
			all = append(all, row{step: s, fate: fate}, row{step: s, fate: fate, sleeps: true})
		}
	}
	return all
}

// half leaves out of rows what is least likely to differ from one kind of bucket to
// another, for servers: whose call fails or is done lives on, whose call is late
// sleeps meanwhile. With WEIR_SOAK nothing is left out.
func half() []row {
	if os.Getenv("WEIR_SOAK") != "" {
		return rows()
	}
	return slices.DeleteFunc(rows(), func(r row) bool { return r.sleeps != (r.fate == storagetest.Late) })
}

// TestFaultMatrix plays a takeover of the commit log on every kind of bucket, on
// real servers, with one fault each time.
func TestFaultMatrix(t *testing.T) {
	for _, kind := range []struct {
		name string
		url  func(*testing.T) string
		rows []row
	}{
		{"mem", func(*testing.T) string { return "mem:" }, rows()},
		{"file", func(t *testing.T) string { return "file:" + t.TempDir() }, rows()},
		{"minio", func(t *testing.T) string { return s3test.Start(t).NewBucket(t) }, half()},
		{"versitygw", func(t *testing.T) string { return s3test.StartVersity(t).NewBucket(t) }, half()},
		{"mysql", func(t *testing.T) string { return mysqltest.Start(t).NewDatabase(t) }, half()},
		{"redis", func(t *testing.T) string { return redistest.Start(t).NewBucket(t) }, half()},
		{"hdfs", func(t *testing.T) string { s := hdfstest.Start(t); return s.URL(s.NewFolder()) }, half()},
	} {
		t.Run(kind.name, func(t *testing.T) {
			b, err := open.Open(t.Context(), kind.url(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := storage.Close(b); err != nil {
					t.Error(err)
				}
			})
			began := time.Now()
			t.Cleanup(func() { t.Logf("%d rows in %v", len(kind.rows), time.Since(began).Round(time.Millisecond)) })
			for _, r := range kind.rows {
				t.Run(r.String(), func(t *testing.T) {
					t.Parallel()
					for _, problem := range perform(storage.Prefix(b, r.String()), r) {
						t.Error(problem)
					}
				})
			}
		})
	}
}

// TestFaultMatrixNotices lets a bucket lie about each step: the books must show it.
func TestFaultMatrixNotices(t *testing.T) {
	for _, s := range steps() {
		r := row{step: s, lied: true}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			problems := perform(mem.New(), r)
			if len(problems) == 0 {
				t.Error("nobody noticed")
			}
			if slices.Contains(problems, neverMade) {
				t.Error(problems)
			}
			t.Log(strings.Join(problems, "\n"))
		})
	}
}
