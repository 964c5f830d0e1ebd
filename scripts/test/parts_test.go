package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Every package that has tests runs on Windows, or is left out by a name that exists and with a reason. So does what
// is tested on Windows alone, for which nobody looks on Linux.
func TestEveryPackageRunsOnWindows(t *testing.T) {
	t.Chdir("../..")
	list, err := tested(t.Context())
	if err != nil || len(list) < 20 {
		t.Fatalf("%v: %v", list, err)
	}
	for name, w := range windowsTests {
		if !slices.Contains(list, name) || w.reason == "" || w.how == "" {
			t.Errorf("%s: %+v: no such package, or no reason", name, w)
		}
	}
	cmd := exec.Command("go", "list", "-f", `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}`, "./...")
	cmd.Env = append(cmd.Environ(), "GOOS=windows", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if !slices.Contains(list, name) {
			t.Errorf("%s has tests on Windows alone, and the part windows does not run them", name)
		}
	}
	for _, name := range list {
		if !slices.Contains(strings.Fields(string(out)), name) {
			t.Errorf("%s has no test on Windows: give windowsTests a reason", name)
		}
	}
}
