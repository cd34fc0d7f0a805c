package open_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/open"
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

func TestOpenS3(t *testing.T) {
	server := s3test.Start(t)
	url := strings.Replace(server.NewBucket(t), "?", "/part?", 1)
	b, err := open.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Probe(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := storage.Close(b); err != nil {
		t.Error(err)
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
		"postgresql://u:p@h": "known are mem, file, s3",
		"mem:x":              "nothing after the colon",
		"file:":              "no folder",
		"file://host/path":   "file:///abs/path",
		"file:" + plain:      "not a folder",
		"s3:b":               "want s3://",
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
