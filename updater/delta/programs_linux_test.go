package delta

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const goSource = `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

type answer struct{ Version, Path string }

func (a answer) String() string { return a.Version + a.Path }

%s

func main() {
	fmt.Println(answer{"%s", os.Args[0]})
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { %s json.NewEncoder(w).Encode(answer{"1", r.URL.Path}) })
	fmt.Println(http.ListenAndServe(os.Args[1], nil))
}
`

// build compiles a release of a program for a system.
func build(t *testing.T, goos, version, more, call string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/app\n\ngo 1.24\n", "main.go": fmt.Sprintf(goSource, more, version, call)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", "app", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH=amd64", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "app"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Two releases of a program, of which the second has a function and a type more, make a patch that is a small part
// of the plain one, and it makes the exact file.
func TestGoPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles four programs; -short was given")
	}
	for _, goos := range []string{"linux", "windows"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			old := build(t, goos, "1.0.0", "", "")
			more := "type count map[string]int\n\nvar seen = count{}\n\nfunc (c count) see(p string) { c[p]++; if c[p] > 1000 { fmt.Println(p, c[p]) } }"
			fresh := build(t, goos, "1.0.1", more, "seen.see(r.URL.Path);")
			patch := mustMake(t, old, fresh)
			got, err := applied(old, patch, len(fresh))
			if err != nil || !bytes.Equal(got, fresh) {
				t.Fatalf("%d other bytes, %v", len(got), err)
			}
			plain, err := MakePlain(t.Context(), old, fresh)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes: plain %d, go %d", len(fresh), len(plain), len(patch))
			if Kind(patch) != Go || Kind(plain) != Plain || 3*len(patch) > len(plain) {
				t.Errorf("%s of %d bytes, %s of %d", Kind(patch), len(patch), Kind(plain), len(plain))
			}
			old[len(old)/2]++
			if got, err := applied(old, patch, len(fresh)); err == nil && bytes.Equal(got, fresh) {
				t.Error("another old file makes the same new one")
			}
		})
	}
}
