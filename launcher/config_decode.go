package main

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// decode writes the document's values into c, and records as a fault every unknown key and every value of
// a wrong type. It knows the few types that Config uses, and adds the place of what it refuses to what a
// general decoder could say.
func (d *document) decode(c *Config) {
	d.table("", d.values, reflect.ValueOf(c).Elem())
}

func (d *document) table(path string, from map[string]any, to reflect.Value) {
	known := fields(to.Type())
	for _, key := range slices.Sorted(maps.Keys(from)) {
		at := join(path, key)
		i, ok := known[key]
		if !ok {
			d.unknown(at, key, slices.Sorted(maps.Keys(known)))
			continue
		}
		d.value(at, from[key], to.Field(i))
	}
}

// fields are the keys of a table.
func fields(t reflect.Type) map[string]int {
	known := map[string]int{}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("toml"); key != "-" {
			known[key] = i
		}
	}
	return known
}

func (d *document) unknown(path, key string, known []string) {
	advice := "the keys here are " + strings.Join(known, ", ")
	near := slices.MinFunc(known, func(a, b string) int { return distance(a, key) - distance(b, key) })
	if distance(near, key) <= 2 {
		advice = fmt.Sprintf("did you mean %s?", near)
	}
	at := path
	if d.has("key " + path) {
		at = "key " + path
	}
	d.bad(at, advice, "unknown key")
	d.faults[len(d.faults)-1].path = path
}

var durationType = reflect.TypeFor[time.Duration]()

func (d *document) value(path string, from any, to reflect.Value) {
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s, isText := from.(string)
		if !isText || u.UnmarshalText([]byte(s)) != nil {
			if _, rate := u.(*Rate); rate {
				d.bad(path, `write a whole number with its unit in quotes: "500kB" or "2MiB" (a second)`, "not a rate")
			} else {
				d.bad(path, `use "debug", "info", "warn" or "error"`, "not a level")
			}
		}
		return
	}
	if to.Type() == durationType {
		d.duration(path, from, to)
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		if m, ok := from.(map[string]any); ok {
			d.table(path, m, to)
		} else {
			d.bad(path, fmt.Sprintf("write [%s] on a line of its own and the keys below it", path), "not a table")
		}
	case reflect.Slice:
		d.list(path, from, to)
	case reflect.Map:
		d.texts(path, from, to)
	default:
		d.scalar(path, from, to)
	}
}

func (d *document) duration(path string, from any, to reflect.Value) {
	const advice = `write a number with its unit in quotes: "500ms", "30s", "10m" or "1h30m"`
	s, ok := from.(string)
	if !ok {
		d.bad(path, advice, "not a duration")
		return
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		d.bad(path, advice, "not a duration")
		return
	}
	to.SetInt(int64(v))
}

func (d *document) list(path string, from any, to reflect.Value) {
	l, ok := from.([]any)
	if !ok {
		advice := `write a list of texts: ["one", "two"]`
		if to.Type().Elem().Kind() == reflect.Struct {
			advice = fmt.Sprintf("write [[%s]] on a line of its own and the keys below it", path)
		}
		d.bad(path, advice, "not a list")
		return
	}
	to.SetZero() // replaces the default; an empty list is no list
	if len(l) > 0 {
		to.Set(reflect.MakeSlice(to.Type(), len(l), len(l)))
	}
	for i, v := range l {
		d.value(fmt.Sprintf("%s[%d]", path, i), v, to.Index(i))
	}
}

func (d *document) texts(path string, from any, to reflect.Value) {
	m, ok := from.(map[string]any)
	if !ok {
		d.bad(path, fmt.Sprintf("write [%s] on a line of its own and NAME = \"value\" lines below it", path), "not a table")
		return
	}
	if len(m) == 0 {
		return
	}
	to.Set(reflect.MakeMap(to.Type()))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		var s string
		d.scalar(join(path, k), m[k], reflect.ValueOf(&s).Elem())
		to.SetMapIndex(reflect.ValueOf(k), reflect.ValueOf(s))
	}
}

func (d *document) scalar(path string, from any, to reflect.Value) {
	switch v := from.(type) {
	case string:
		if to.Kind() == reflect.String {
			to.SetString(v)
			return
		}
	case bool:
		if to.Kind() == reflect.Bool {
			to.SetBool(v)
			return
		}
	case int64:
		switch {
		case to.Kind() == reflect.Int:
			to.SetInt(v)
			return
		case to.Kind() == reflect.Uint64 && v >= 0:
			to.SetUint(uint64(v))
			return
		case to.Kind() == reflect.Float64:
			to.SetFloat(float64(v))
			return
		}
	case float64:
		if to.Kind() == reflect.Float64 {
			to.SetFloat(v)
			return
		}
	}
	names := map[reflect.Kind][2]string{
		reflect.String:  {"a text", `put it in quotes: "..."`},
		reflect.Bool:    {"true or false", "write true or false without quotes"},
		reflect.Int:     {"a whole number", "write digits without quotes"},
		reflect.Uint64:  {"a whole number from 0", "write digits without quotes"},
		reflect.Float64: {"a number", "write a number without quotes, such as 0.05"},
	}
	n := names[to.Kind()]
	d.bad(path, n[1], "not %s", n[0])
}

// distance is the number of single-letter edits between two words, swaps of neighbours counting as two.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
