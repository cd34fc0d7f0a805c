package admin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOwnToken: a process writes a token once, readable for its group, and replaces an
// invalid one.
func TestOwnToken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, File)
	first, made, err := OwnToken(dir)
	info, statErr := os.Stat(path)
	if err != nil || !made || statErr != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("made %v, %v; %v, %v", made, err, info, statErr)
	}
	if again, made, err := OwnToken(dir); err != nil || made || again != first {
		t.Errorf("the second start: made %v, %v", made, err)
	}
	for _, body := range []string{"", "\n", "weiradm1.SHORT", first[:30], first + first, strings.ToLower(first), "weir1." + strings.Repeat("A", 40)} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+".new", []byte("left by a crash"), 0o600); err != nil {
			t.Fatal(err)
		}
		token, made, err := OwnToken(dir)
		if stored, readErr := ReadToken(path); err != nil || !made || readErr != nil || stored != token || token == first {
			t.Errorf("%q: made %v, %v; %v", body, made, err, readErr)
		}
	}
	if token, made, err := OwnToken(filepath.Join(dir, "nowhere")); err == nil || !made || token == "" {
		t.Errorf("where nothing can be written: made %v, %v", made, err)
	}
}

func TestParseToken(t *testing.T) {
	token := NewToken()
	if got, err := ParseToken(" " + token + "\r\n"); err != nil || got != token {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"", tokenPrefix, token[1:], token + "-", token + " " + token, tokenPrefix + strings.Repeat("A", 300)} {
		if _, err := ParseToken(text); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
