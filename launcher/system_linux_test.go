package main

import (
	"os"
	"testing"
)

// writePrivate writes a file that nobody else can read.
func writePrivate(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeOpen writes one that everybody can read.
func writeOpen(t *testing.T, name, text string) {
	t.Helper()
	write(t, name, text)
}

// closeHint is what is advised about a file that others can read.
func closeHint(name string) string { return "chmod 600 " + name }
