package floors

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	quoted   = regexp.MustCompile("`[a-z0-9/]+`|\\b(?:Test|Fuzz)[A-Z][A-Za-z0-9]*\\b")
	declared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// Every test that docs/THREATS.md calls a proof exists, in the package that it is said to be in: the one in backquotes
// that comes last before it.
func TestNamedTestsExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "THREATS.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests, where, count := declaredTests(t), "", 0
	for i, line := range strings.Split(string(text), "\n") {
		for _, word := range quoted.FindAllString(line, -1) {
			if dir := strings.Trim(word, "`"); dir != word {
				if tests[dir] != nil {
					where = dir
				}
				continue
			}
			count++
			if !tests[where][word] {
				t.Errorf("THREATS.md:%d: no %s in package %s", i+1, word, where)
			}
		}
	}
	if count < 100 {
		t.Errorf("THREATS.md names %d tests", count)
	}
}

// declaredTests returns the tests of each package, for every system.
func declaredTests(t *testing.T) map[string]map[string]bool {
	t.Helper()
	root := filepath.Join("..", "..")
	tests := map[string]map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		dir = filepath.ToSlash(dir)
		for _, m := range declared.FindAllStringSubmatch(string(text), -1) {
			if tests[dir] == nil {
				tests[dir] = map[string]bool{}
			}
			tests[dir][m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
