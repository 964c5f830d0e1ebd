// Package floors holds the tests of the tree as a whole: imports only go down, and the tests that documents name exist.
package floors

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/turnstone-go/turnstone/"

// floor of each package: programs above the engine, the engine above the workers, the workers above
// the words and the disk. A package may import lower floors only; its neighbours are not its business.
var floor = map[string]int{
	"scripts/demo": 5, "scripts/test": 5, "scripts/bench": 5, "scripts/build": 5, "e2e": 5, "e2e/scmctl": 5, "e2e/bridge": 5, "e2e/locker": 5, "e2e/console": 5, "e2e/tufclient": 5, "scripts/wincheck": 5, "scripts/wine": 5,

	"e2e/stage": 4,

	"launcher": 3, "release": 3, "payload/example": 3,

	"updater": 2, "launcher/control": 2,

	"launcher/host": 1, "launcher/child": 1, "launcher/relay": 1, "launcher/probe": 1, "launcher/self": 1, "updater/store": 1, "updater/fetch": 1,
	"updater/delta": 1, "updater/policy": 1, "release/repo": 1, "payload": 1, "e2e/load": 1, "e2e/nspawn": 1,

	"manifest": 0, "updater/journal": 0, "updater/bundle": 0, "internal/durable": 0, "internal/durable/durabletest": 0, "internal/archive": 0, "internal/cmdline": 0, "internal/pipe": 0, "internal/sockfile": 0, "internal/wire": 0, "internal/floors": 0,
}

// allowed are the imports on one floor that are meant, each with its reason.
var allowed = map[string]string{
	"launcher/control > updater":                      "the API shows the engine's status and carries its orders",
	"manifest > internal/durable":                     "trusted metadata is kept on the disk",
	"updater/journal > internal/durable":              "the slots are written through the disk",
	"internal/durable/durabletest > internal/durable": "the test disk is a disk",
	"manifest > internal/archive":                     "a release says what kind of archive it is, and which file in it is the program",
	"e2e/stage > e2e/load":                            "a staged launcher is put under load",
}

// only names the packages that may import a module, with the reason.
var only = []struct {
	prefix  string
	by      []string
	because string
}{
	{"github.com/theupdateframework/go-tuf", []string{"manifest"}, "one narrow wrapper holds the rules that make TUF safe here"},
	{"github.com/sigstore/", []string{"manifest"}, "it comes with go-tuf and goes no further"},
	{"aead.dev/minisign", []string{"manifest"}, "signatures are made and checked in one place"},
	{"github.com/spf13/cobra", []string{"launcher", "release", "internal/cmdline"}, "command lines are the programs' affair"},
	{"github.com/pelletier/go-toml", []string{"launcher", "release"}, "configuration is the programs' affair"},
	{"github.com/Microsoft/go-winio", []string{"launcher/control", "launcher/child", "e2e/bridge"}, "named pipes are the local endpoints on Windows"},
	{"github.com/minio/minio-go", []string{"release/repo"}, "object stores are one kind of place to publish to"},
	{"github.com/minio/selfupdate", []string{"launcher", "launcher/self"}, "it replaces the launcher's own file, never a version in the store"},
	{"os/exec", []string{"launcher", "launcher/child", "launcher/probe", "launcher/host", "release", "scripts/*", "e2e", "e2e/*"}, "the engine and the words start no process"},
	{"net/http", []string{"launcher", "launcher/control", "launcher/probe", "updater/fetch", "payload", "payload/example", "release", "release/repo", "scripts/*", "e2e", "e2e/*"}, "the engine, the store and the documents speak no protocol"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestImportsGoDown(t *testing.T) {
	for _, goos := range []string{"linux", "windows"} {
		for _, p := range list(t, goos) {
			check(t, p)
		}
	}
}

func check(t *testing.T, p pkg) {
	name := strings.TrimPrefix(p.ImportPath, module)
	from, known := floor[name]
	if !known {
		t.Errorf("%s stands on no floor: add it to the map, or put its code where it belongs", name)
		return
	}
	for _, imp := range p.Imports {
		checkOnly(t, name, imp)
		to, ours := strings.CutPrefix(imp, module)
		if !ours || floor[to] < from || allowed[name+" > "+to] != "" {
			continue
		}
		t.Errorf("%s imports %s, which is not below it", name, to)
	}
	if name == "payload" {
		checkSDK(t, p.Imports)
	}
}

func checkOnly(t *testing.T, name, imp string) {
	for _, o := range only {
		if !strings.HasPrefix(imp, o.prefix) {
			continue
		}
		if !slices.ContainsFunc(o.by, func(by string) bool { return covers(by, name) }) {
			t.Errorf("%s imports %s: only %v may, because %s", name, imp, o.by, o.because)
		}
	}
}

func covers(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	return pattern == name
}

// checkSDK keeps the package that users link free of everything but the standard library, x/sys and the words.
func checkSDK(t *testing.T, imports []string) {
	for _, imp := range imports {
		if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !strings.HasPrefix(imp, "golang.org/x/sys") && imp != module+"internal/wire" {
			t.Errorf("payload imports %s: it may link the standard library, golang.org/x/sys and internal/wire only", imp)
		}
	}
}

func list(t *testing.T, goos string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
