// Command gen writes the Go of the AMQP 0-9-1 methods and properties from methods.txt:
// a file for each class, methods.go and properties.go. It runs in the package's own
// directory, by go generate.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	text, err := os.ReadFile("methods.txt")
	if err != nil {
		return err
	}
	files, err := generate(string(text))
	if err != nil {
		return fmt.Errorf("methods.txt: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
