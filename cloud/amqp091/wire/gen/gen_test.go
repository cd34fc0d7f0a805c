package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is committed is what the generator makes of the table now.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	text, err := os.ReadFile("../methods.txt")
	if err != nil {
		t.Fatal(err)
	}
	files, err := generate(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the table says: run go generate", name)
		}
	}
	all, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := files[filepath.Base(path)]; !ok && strings.HasPrefix(string(content), head[:30]) {
			t.Errorf("%s is generated from nothing", path)
		}
	}
}

func TestMistakesInTheTable(t *testing.T) {
	for _, text := range []string{
		"class a x", "klass a 1", "method m 1 client", "class a 1\nmethod m 1 nobody", "class a 1\nmethod m 1 client fast",
		"class a 1\nmethod m x client", "class a 1\n\tf short", "class a 1\nmethod m 1 client\n\tf int", "property p int", "class a 1\nmethod m 1 client\n\tf",
	} {
		if _, err := generate(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
