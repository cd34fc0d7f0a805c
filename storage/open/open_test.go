package open_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for url, path := range map[string]string{
		"mem:":                        "",
		"file:rel/path":               "rel/path",
		"file:./dot":                  "dot",
		"file://" + dir + "/abs/path": "abs/path",
		"file:" + dir + "/short%20":   "short%20",
	} {
		b, err := open.Open(t.Context(), url)
		if err != nil {
			t.Errorf("Open(%q): %v", url, err)
			continue
		}
		if err := storage.Probe(t.Context(), b); err != nil {
			t.Errorf("Open(%q): %v", url, err)
		}
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Errorf("Open(%q): %v", url, err)
		}
	}
}

// TestOpenServers opens what is reached over a network; hdfs, whose server takes
// long to start, has the same few lines.
func TestOpenServers(t *testing.T) {
	for name, newURL := range map[string]func(*testing.T) string{
		"s3":    func(t *testing.T) string { return strings.Replace(s3test.Start(t).NewBucket(t), "?", "/part?", 1) },
		"mysql": func(t *testing.T) string { return mysqltest.Start(t).NewDatabase(t) },
		"redis": func(t *testing.T) string { return redistest.Start(t).NewBucket(t) },
	} {
		t.Run(name, func(t *testing.T) {
			b, err := open.Open(t.Context(), newURL(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := storage.Probe(t.Context(), b); err != nil {
				t.Error(err)
			}
			if size := storage.PreferredSize(b); (size > 0) != (name != "s3") {
				t.Errorf("preferred size %d", size)
			}
			if warnings := storage.Warnings(t.Context(), b); len(warnings) > 0 {
				t.Errorf("warnings %q", warnings)
			}
			if err := storage.Close(b); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"":                   "no scheme",
		"./data":             "write file:./data",
		"fiel:data":          `did you mean "file"?`,
		"FILE:data":          `did you mean "file"?`,
		"s33://b":            `did you mean "s3"?`,
		"memory:":            `did you mean "mem"?`,
		"postgresql://u:p@h": "known are mem, file, s3, mysql, redis, rediss, hdfs",
		"mem:x":              "nothing after the colon",
		"file:":              "no folder",
		"file://host/path":   "file:///abs/path",
		"file:" + plain:      "not a folder",
		"s3:b":               "s3:b: the URL must be s3://",
	} {
		b, err := open.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): %v, want %q", url, err, want)
		}
		if b != nil {
			t.Errorf("Open(%q): a bucket beside the error", url)
		}
	}
}

// TestCheck: a URL can be checked without opening anything.
func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	for url, want := range map[string]string{"file:data": "", "s3://b": "", "data": "for a folder write file:data", "fiel:data": `did you mean "file"?`} {
		if err := open.Check(url); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("Check(%q): %v, want %q", url, err, want)
		}
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("it made %v: %v", made, err)
	}
}
