package floors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two changes of one row or paragraph, put together line by line, leave both of them in the page. So no table says two
// things of one subject, and no two paragraphs begin with the same words.
func TestNothingIsSaidTwice(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md", "../../CHANGELOG.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, words := range twice(string(b)) {
			t.Errorf("%s: said twice: %s", filepath.Base(page), words)
		}
	}
}

func TestTwice(t *testing.T) {
	for text, want := range map[string]string{
		"| a | 1 |\n| b | 2 |\n| a | 3 |\n":                           "a",
		"| a | 1 |\n\n| a | 3 |\n":                                    "",
		"| | 1 |\n| | 2 |\n":                                          "",
		"Words that begin a paragraph, once.\n\nOther words are here": "",
		"This is how the whole of a paragraph begins, once.\nThis is how the whole of a paragraph begins, twice.":         "This is how the whole of a paragraph beg",
		"```\nThis is how the whole of an output begins, once.\nThis is how the whole of an output begins, twice.\n```\n": "",
	} {
		if got := strings.Join(twice(text), ","); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// opening is how much of a line outside of tables and outputs is its own.
const opening = 40

func twice(text string) (list []string) {
	rows, lines, output := map[string]bool{}, map[string]bool{}, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			output = !output
		}
		key, seen := line[:min(len(line), opening)], lines
		if strings.HasPrefix(line, "|") {
			key, seen = strings.TrimSpace(strings.Split(line, "|")[1]), rows
		} else {
			rows = map[string]bool{}
			if len(line) < opening {
				continue
			}
		}
		if seen[key] && key != "" && !output {
			list = append(list, key)
		}
		seen[key] = true
	}
	return list
}
