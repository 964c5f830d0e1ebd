package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a TOML file taken apart, with the place of everything in it, and what was found wrong.
type document struct {
	file   string
	data   []byte
	values map[string]any
	spans  map[string]span // by path: "drain.idle", "listen[0].address", "payload.command[1]"
	faults []fault
}

// span is a range of bytes of the file.
type span struct{ from, to int }

// fault is one thing wrong, and what to do about it.
type fault struct {
	at     span
	path   string
	text   string
	advice string
}

// maxFaults bounds the report: after so many it is another kind of file.
const maxFaults = 20

// parseDocument refuses what is not TOML. go-toml finds syntax errors and keys given twice; its parser
// tells where each value stands, which the decoder does not.
func parseDocument(file string, data []byte) (*document, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a mark of UTF-8, which editors of Windows put there
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		d := &document{file: file, faults: []fault{{text: "the file is UTF-16", advice: "save it as UTF-8"}}}
		return nil, d.err()
	}
	d := &document{file: file, data: data, spans: map[string]span{}}
	if err := toml.Unmarshal(data, &d.values); err != nil {
		var de *toml.DecodeError
		if !errors.As(err, &de) {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		from := d.offset(de.Position())
		d.faults = append(d.faults, fault{
			at: span{from, from + 1}, text: strings.TrimPrefix(de.Error(), "toml: "),
			advice: `write TOML: [table] lines, and key = "value" lines, each key once`,
		})
		return nil, d.err()
	}
	d.locate()
	return d, nil
}

// locate fills spans.
func (d *document) locate() {
	var p unstable.Parser
	p.Reset(d.data)
	count := map[string]int{}
	prefix := ""
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix, _ = d.keyPath("", e, count)
			if e.Kind == unstable.ArrayTable {
				count[prefix]++
				prefix = fmt.Sprintf("%s[%d]", prefix, count[prefix]-1)
			}
			d.spans[prefix] = keySpan(e)
		case unstable.KeyValue:
			d.locateKeyValue(prefix, e)
		}
	}
}

func (d *document) locateKeyValue(prefix string, e *unstable.Node) {
	path, key := d.keyPath(prefix, e, nil)
	d.spans["key "+path] = key
	d.locateValue(path, e.Value(), key)
}

// locateValue records a value. Arrays and inline tables have no extent of their own: they take the key's.
func (d *document) locateValue(path string, v *unstable.Node, around span) {
	at := around
	if v.Raw.Length > 0 && v.Kind != unstable.InlineTable {
		at = span{int(v.Raw.Offset), int(v.Raw.Offset + v.Raw.Length)}
	}
	d.spans[path] = at
	children := v.Children()
	switch v.Kind {
	case unstable.Array:
		for i := 0; children.Next(); i++ {
			d.locateValue(fmt.Sprintf("%s[%d]", path, i), children.Node(), at)
		}
	case unstable.InlineTable:
		for children.Next() {
			d.locateKeyValue(path, children.Node())
		}
	}
}

// keyPath joins a dotted key to its prefix. A table below an array of tables belongs to its last element.
func (d *document) keyPath(prefix string, e *unstable.Node, count map[string]int) (string, span) {
	path := prefix
	it := e.Key()
	for it.Next() {
		if n := count[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
		path = join(path, string(it.Node().Data))
	}
	return path, keySpan(e)
}

func keySpan(e *unstable.Node) span {
	at := span{-1, -1}
	it := e.Key()
	for it.Next() {
		r := it.Node().Raw
		if at.from < 0 {
			at.from = int(r.Offset)
		}
		at.to = int(r.Offset + r.Length)
	}
	return at
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// has tells whether the file itself says something at path.
func (d *document) has(path string) bool {
	_, ok := d.spans[path]
	return ok
}

// bad records a fault at path; if the file has nothing there, at the table around it or at the first line.
// What follows from a fault at the same path is not worth saying.
func (d *document) bad(path, advice, format string, args ...any) {
	if slices.ContainsFunc(d.faults, func(f fault) bool { return f.path == path }) {
		return
	}
	f := fault{path: path, text: fmt.Sprintf(format, args...), advice: advice}
	for p := path; ; {
		at, ok := d.spans[p]
		if ok {
			f.at = at
			break
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			break
		}
		p = p[:i]
	}
	d.faults = append(d.faults, f)
}

// err is everything that is wrong, or nil.
func (d *document) err() error {
	if len(d.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(d.faults, func(a, b fault) int { return a.at.from - b.at.from })
	return &configError{doc: d}
}

// offset turns a line and a column, both from 1, into bytes.
func (d *document) offset(line, column int) int {
	at := 0
	for range line - 1 {
		i := strings.IndexByte(string(d.data[at:]), '\n')
		if i < 0 {
			break
		}
		at += i + 1
	}
	return min(at+column-1, len(d.data))
}

// place is the line (from 1) that holds a byte, its text, and the byte's offset in it.
func (d *document) place(offset int) (line int, text string, column int) {
	before := string(d.data[:offset])
	start := strings.LastIndexByte(before, '\n') + 1
	text, _, _ = strings.Cut(string(d.data[start:]), "\n")
	return strings.Count(before, "\n") + 1, strings.TrimRight(text, "\r"), offset - start
}

// configError is a configuration file with faults; its text shows each with its line and a caret.
type configError struct{ doc *document }

func (e *configError) Error() string {
	var b strings.Builder
	shown := e.doc.faults[:min(len(e.doc.faults), maxFaults)]
	fmt.Fprintf(&b, "%s: %s", e.doc.file, plural(len(e.doc.faults), "error"))
	for _, f := range shown {
		b.WriteString("\n\n" + e.doc.render(f))
	}
	return b.String()
}

func (d *document) render(f fault) string {
	line, text, column := d.place(f.at.from)
	column = min(column, len(text))
	width := utf8.RuneCountInString(text[column:min(len(text), column+max(f.at.to-f.at.from, 1))])
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return '\t' // keeps the caret below its text whatever a tab is worth
		}
		return ' '
	}, text[:column])
	what := f.text
	if f.path != "" {
		what = f.path + ": " + f.text
	}
	number := fmt.Sprintf("%4d", line)
	return fmt.Sprintf("line %d: %s\n%s | %s\n     | %s%s\n     %s",
		line, what, number, text, pad, strings.Repeat("^", max(width, 1)), f.advice)
}
