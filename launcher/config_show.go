package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// showConfig prints a configuration as a file that means the same, with every default written out.
// given tells which keys the user wrote; the others are marked.
func showConfig(c Config, given func(path string) bool) string {
	var b strings.Builder
	showTable(&b, "", "", reflect.ValueOf(c), given)
	return strings.TrimLeft(b.String(), "\n")
}

// showTable prints a table's keys and then the tables in it, as TOML demands. name is what the file calls
// the table, path how the document does.
func showTable(b *strings.Builder, name, path string, v reflect.Value, given func(string) bool) {
	keys := fields(v.Type())
	order := slices.SortedFunc(maps.Keys(keys), func(x, y string) int { return keys[x] - keys[y] })
	for _, key := range order {
		f := v.Field(keys[key])
		if isTable(f.Type()) {
			continue
		}
		line := fmt.Sprintf("%s = %s", key, tomlValue(f))
		if !given(join(path, key)) {
			line = fmt.Sprintf("%-40s # default", line)
		}
		b.WriteString(line + "\n")
	}
	for _, key := range order {
		f := v.Field(keys[key])
		sub, subPath := join(name, key), join(path, key)
		switch {
		case !isTable(f.Type()):
		case f.Kind() == reflect.Slice:
			for i := range f.Len() {
				fmt.Fprintf(b, "\n[[%s]]\n", sub)
				showTable(b, sub, fmt.Sprintf("%s[%d]", subPath, i), f.Index(i), given)
			}
		case f.Kind() == reflect.Map:
			showTexts(b, sub, f)
		default:
			fmt.Fprintf(b, "\n[%s]\n", sub)
			showTable(b, sub, subPath, f, given)
		}
	}
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Map ||
		t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

func showTexts(b *strings.Builder, name string, m reflect.Value) {
	if m.Len() == 0 {
		return
	}
	fmt.Fprintf(b, "\n[%s]\n", name)
	texts := m.Interface().(map[string]string)
	for _, k := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(b, "%s = %s\n", k, tomlText(texts[k]))
	}
}

// exact prints a duration as time.ParseDuration reads it, without zero units behind: "5m", not "5m0s".
func exact(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if t := strings.TrimSuffix(s, zero); t != s && (strings.HasSuffix(t, "m") || strings.HasSuffix(t, "h")) {
			s = t
		}
	}
	return s
}

func tomlValue(v reflect.Value) string {
	if v.Type() == durationType {
		return tomlText(exact(time.Duration(v.Int())))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		return tomlText(plainText(m))
	}
	switch v.Kind() {
	case reflect.String:
		return tomlText(v.String())
	case reflect.Slice:
		words := make([]string, v.Len())
		for i := range words {
			words[i] = tomlText(v.Index(i).String())
		}
		return "[" + strings.Join(words, ", ") + "]"
	case reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	default:
		return fmt.Sprint(v.Interface())
	}
}

// plainText is a level or a rate as people write it.
func plainText(m encoding.TextMarshaler) string {
	text, err := m.MarshalText()
	if err != nil {
		panic("launcher: internal error: " + err.Error())
	}
	if _, level := m.(slog.Level); level {
		return strings.ToLower(string(text))
	}
	return string(text)
}

// tomlText quotes a text. JSON's escapes are a part of TOML's; only DEL, which TOML forbids bare, is not
// escaped there.
func tomlText(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("launcher: internal error: " + err.Error())
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "\x7f", `\u007f`)
}

// treeConfig is the configuration as showConfig prints it, for --json: durations are texts.
func treeConfig(v reflect.Value) any {
	if v.Type() == durationType {
		return exact(time.Duration(v.Int()))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		return plainText(m)
	}
	switch {
	case v.Kind() == reflect.Struct:
		tree := map[string]any{}
		for key, i := range fields(v.Type()) {
			tree[key] = treeConfig(v.Field(i))
		}
		return tree
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = treeConfig(v.Index(i))
		}
		return list
	default:
		return v.Interface()
	}
}
