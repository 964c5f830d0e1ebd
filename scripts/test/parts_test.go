package main

import (
	"slices"
	"testing"
)

// Every package that has tests on Linux has some that run on Windows, or is left out by a name that exists and with a
// reason.
func TestEveryPackageRunsOnWindows(t *testing.T) {
	t.Chdir("../..")
	here, err := tested(t.Context(), "linux")
	if err != nil || len(here) < 20 {
		t.Fatalf("%v: %v", here, err)
	}
	there, err := tested(t.Context(), "windows")
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range windowsTests {
		if !slices.Contains(here, name) || w.reason == "" || w.how == "" {
			t.Errorf("%s: %+v: no such package, or no reason", name, w)
		}
	}
	for _, name := range here {
		if _, left := windowsTests[name]; !left && !slices.Contains(there, name) {
			t.Errorf("%s has no test on Windows: give windowsTests a reason", name)
		}
	}
}
