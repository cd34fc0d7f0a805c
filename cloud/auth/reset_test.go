package auth

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// TestReset: the next owner knows the new credential, once, and only if it was made
// with the bucket's key.
func TestReset(t *testing.T) {
	ctx, b, key, now := t.Context(), mem.New(), []byte("the key"), time.Now()
	var lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	a, _ := start(t, Options{})
	take := func() {
		t.Helper()
		if err := a.TakeResets(ctx, b, key, log); err != nil {
			t.Fatal(err)
		}
	}
	left := func() []string {
		t.Helper()
		keys, err := b.List(ctx, "", "", 100)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	take() // nothing
	if lines.Len() != 0 {
		t.Errorf("said\n%s", &lines)
	}
	var tokens []string
	for i := range 2 {
		token, err := Reset(ctx, b, key, now.Add(time.Duration(i)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	stored, err := b.Get(ctx, left()[0], 0, -1)
	if err != nil || bytes.Contains(stored, []byte(tokens[0])) || bytes.Contains(stored, []byte(tokens[1])) {
		t.Errorf("%v: a token lies in the bucket: %s", err, stored)
	}
	take()
	if caller, err := a.Administrator(admin.HashOf(tokens[1])); err != nil || caller != (admin.Caller{Name: ResetName, Role: admin.Administer}) {
		t.Errorf("the newer: %+v, %v", caller, err)
	}
	if _, err := a.Administrator(admin.HashOf(tokens[0])); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("the older: %v", err)
	}
	if keys := left(); len(keys) != 0 {
		t.Errorf("left: %v", keys)
	}

	// A crash before the deletion: the object is there again, also when the
	// administrator was removed meanwhile.
	again := func() {
		t.Helper()
		if err := b.Create(ctx, "admin/0000000000000000", stored); err != nil {
			t.Fatal(err)
		}
		take()
	}
	if err := a.RemoveAdmin(ctx, ResetName); err != nil {
		t.Fatal(err)
	}
	if token, err := Reset(ctx, b, key, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	} else {
		keys := left()
		stored, err = b.Get(ctx, keys[0], 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		take()
		again()
		if err := a.RemoveAdmin(ctx, ResetName); err != nil {
			t.Fatal(err)
		}
		again()
		if _, err := a.Administrator(admin.HashOf(token)); err == nil || len(left()) != 0 {
			t.Errorf("a removed administrator is back: %v", left())
		}
	}

	for what, body := range map[string][]byte{"another key": func() []byte {
		other := mem.New()
		if _, err := Reset(ctx, other, []byte("another key"), now); err != nil {
			t.Fatal(err)
		}
		keys, err := other.List(ctx, "", "", 1)
		if err != nil {
			t.Fatal(err)
		}
		body, err := other.Get(ctx, keys[0], 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}(), "nothing": {}, "no JSON": []byte("x"), "no hash": []byte(`{"mac":""}`)} {
		forge(t, b, a, body, key, log, &lines, what)
	}
}

// forge puts a body where a reset would be: nobody becomes an administrator by it.
func forge(t *testing.T, b storage.Bucket, a *Auth, body, key []byte, log *slog.Logger, lines *bytes.Buffer, what string) {
	t.Helper()
	lines.Reset()
	if err := b.Create(t.Context(), "admin/1111111111111111", body); err != nil {
		t.Fatal(err)
	}
	if err := a.TakeResets(t.Context(), b, key, log); err != nil || len(a.Admins()) != 0 || !strings.Contains(lines.String(), "admin/1111111111111111") {
		t.Errorf("%s: %v, %+v\n%s", what, err, a.Admins(), lines)
	}
	if err := b.Delete(t.Context(), "admin/1111111111111111"); err != nil {
		t.Fatal(err)
	}
}
