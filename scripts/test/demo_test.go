package main

import (
	"strings"
	"testing"
)

// Each promise of the demo is held against what it printed.
func TestCheckDemo(t *testing.T) {
	const line = `{"requests":8388,"refused":0,"failed":0,"retryable":0,"cut_by_crash":48,"switches":3,"rollbacks":2,"serving":"1.1.0"}`
	story := strings.Join(lastWords, "\n")
	if err := checkDemo([]byte("text\n"+line+"\n"), []byte(story)); err != nil {
		t.Errorf("a good one: %v", err)
	}
	for _, c := range []struct{ old, new string }{
		{`"refused":0`, `"refused":1`}, {`"failed":0`, `"failed":1`}, {`"retryable":0`, `"retryable":1`},
		{"8388", "9"}, {`"switches":3`, `"switches":2`}, {`"switches":3`, `"switches":4`},
		{`"rollbacks":2`, `"rollbacks":1`}, {"1.1.0", "1.0.0"}, {"{", ""},
		{lastWords[0], ""}, {lastWords[1], ""}, {lastWords[2], ""}, {lastWords[3], ""},
	} {
		bad := strings.NewReplacer(c.old, c.new)
		if err := checkDemo([]byte(bad.Replace(line)), []byte(bad.Replace(story))); err == nil {
			t.Errorf("%q instead of %q is taken", c.new, c.old)
		}
	}
}
