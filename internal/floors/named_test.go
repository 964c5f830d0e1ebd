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

// Every test that a document calls a proof exists, in the package that it is said to be in: the one in backquotes
// that comes last before it.
func TestNamedTestsExist(t *testing.T) {
	tests := declaredTests(t)
	for name, least := range map[string]int{"THREATS.md": 100, "OPERATIONS.md": 20} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		where, count := "", 0
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
					t.Errorf("%s:%d: no %s in package %s", name, i+1, word, where)
				}
			}
		}
		if count < least {
			t.Errorf("%s names %d tests", name, count)
		}
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
