package main

import (
	"os"
	"strings"
	"testing"
)

// The page of failures and the mutations name the same pairs, and every mutation is of the text as it is.
func TestMutationsAreDocumented(t *testing.T) {
	t.Chdir("../..")
	if err := documented(); err != nil {
		t.Error(err)
	}
	for _, m := range mutations {
		text, err := os.ReadFile(m.file)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.old); n != 1 || m.old == m.new {
			t.Errorf("%s holds %q %d times", m.file, m.old, n)
		}
	}
}
