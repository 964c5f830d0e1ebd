package main

import "testing"

// Only the service counts as a start of a launcher on trial, whatever flags stand before its verb.
func TestServes(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want bool
	}{
		{[]string{"launcher", "run"}, true},
		{[]string{"launcher", "--config", "x.toml", "run"}, true},
		{[]string{"launcher", "--config=run", "status"}, false},
		{[]string{"launcher", "--config", "run", "status"}, false},
		{[]string{"launcher", "--json", "run-service", "--name", "x"}, true},
		{[]string{"launcher", "reap", "run"}, false},
		{[]string{"launcher", "guard", "run"}, false},
		{[]string{"launcher"}, false},
		{nil, false},
	} {
		if got := serves(c.argv); got != c.want {
			t.Errorf("%v: %v", c.argv, got)
		}
	}
}
