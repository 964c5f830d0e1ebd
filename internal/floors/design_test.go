package floors

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tree of docs/DESIGN.md has every package that a program is made of, and names the folders with files for one
// system alone, and no others.
func TestDesignShowsTheTree(t *testing.T) {
	b, err := os.ReadFile("../../docs/DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for name := range floor {
		top, _, _ := strings.Cut(name, "/")
		if top == "e2e" || top == "scripts" || strings.HasSuffix(name, "test") { // one line for all of them
			continue
		}
		if !strings.Contains(doc, "\n"+name+" ") && !strings.Contains(doc, "\n"+name+"/ ") {
			t.Errorf("docs/DESIGN.md, section 2, has no line for %s", name)
		}
	}
	_, list, _ := strings.Cut(doc, "`_windows.go`/`_linux.go` files exist only in ")
	list, _, ok := strings.Cut(strings.Join(strings.Fields(list), " "), ". ")
	if !ok {
		t.Fatal("docs/DESIGN.md does not say where files for one system are")
	}
	named := strings.Split(strings.ReplaceAll(list, " and ", ", "), ", ")
	if have := systemFolders(t); !slices.Equal(have, slices.Sorted(slices.Values(named))) {
		t.Errorf("files for one system are in %v, docs/DESIGN.md names %v", have, named)
	}
}

// systemFolders are the last names of the folders whose programs have files for one system alone.
func systemFolders(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, top := range []string{"launcher", "updater", "manifest", "release", "payload", "internal"} {
		err := filepath.WalkDir("../../"+top, func(name string, _ fs.DirEntry, err error) error {
			folder := path.Base(filepath.ToSlash(filepath.Dir(name)))
			if (strings.HasSuffix(name, "_windows.go") || strings.HasSuffix(name, "_linux.go")) && folder != "durabletest" {
				found = append(found, folder)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}
