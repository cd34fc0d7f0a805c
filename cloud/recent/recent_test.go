package recent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	var lines Lines
	var out strings.Builder
	log := slog.New(lines.Handler(slog.NewTextHandler(&out, nil)))
	log.Info("nothing to keep")
	log.With("node", "a").WithGroup("disk").Warn("nearly full", "free", 3, slog.Group("of", "size", 9))
	log.Error("gone", "err", errors.New("it broke"))
	all := lines.Newest()
	if len(all) != 2 || all[0].Text != "gone" || all[0].Level != "ERROR" || all[1].Text != "nearly full" || all[1].Level != "WARN" || all[0].Time.IsZero() {
		t.Fatalf("%+v", all)
	}
	if got := fmt.Sprint(all[1].About, all[0].About); got != "[{node a} {disk.free 3} {disk.of.size 9}] [{err it broke}]" {
		t.Errorf("about: %s", got)
	}
	if n := strings.Count(out.String(), "\n"); n != 3 || !strings.Contains(out.String(), "disk.of.size=9") {
		t.Errorf("what the log has:\n%s", &out)
	}
}

// TestQuietLog: what the log does not want is kept all the same.
func TestQuietLog(t *testing.T) {
	var lines Lines
	log := slog.New(lines.Handler(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError})))
	log.Warn("kept")
	log.Debug("not kept")
	if all := lines.Newest(); len(all) != 1 || all[0].Text != "kept" {
		t.Errorf("%+v", all)
	}
}

// TestBounds: what is kept has bounds, in lines and in bytes, and is valid UTF-8.
func TestBounds(t *testing.T) {
	var lines Lines
	log := slog.New(lines.Handler(slog.DiscardHandler))
	for i := range maxLines + 7 {
		log.Warn(fmt.Sprint("line ", i))
	}
	all := lines.Newest()
	if len(all) != maxLines || all[0].Text != fmt.Sprint("line ", maxLines+6) || all[maxLines-1].Text != "line 7" {
		t.Errorf("%d lines, from %q to %q", len(all), all[0].Text, all[len(all)-1].Text)
	}
	log.Warn("long", "a", strings.Repeat("ü", maxText), "b", "no room")
	log.Warn(strings.Repeat("ü", maxText)+"x", "c", "no room")
	log.Warn("bad \xff", "d\xff", "\xfe")
	for _, line := range lines.Newest()[:3] {
		size := len(line.Text)
		for _, a := range line.About {
			size += len(a.Key) + len(a.Value)
			if !utf8.ValidString(a.Value) {
				t.Errorf("%q", a.Value)
			}
		}
		if size > maxText+3 || !utf8.ValidString(line.Text) {
			t.Errorf("%d bytes: %.20q", size, line.Text)
		}
	}
}
