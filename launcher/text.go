package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// row prints one aligned line for people: a word, then what it came to. An empty text prints nothing.
func row(w io.Writer, word, text string) {
	if text != "" {
		fmt.Fprintf(w, "  %-11s %s\n", word, text)
	}
}

// dots joins what there is to say about one thing.
func dots(parts ...string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return strings.Join(there, " · ")
}

// table prints rows in columns as wide as their widest cell; the last one is left ragged.
func table(w io.Writer, rows [][]string) {
	var width []int
	for _, r := range rows {
		for i, cell := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, r := range rows {
		line := " "
		for i, cell := range r {
			line += " " + cell + strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+1)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// short prints a duration with at most two units and no zeros behind: "3d2h", "1m30s", "0.9s", "38ms".
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + short(-d)
	case d >= 24*time.Hour:
		return units(d.Round(time.Hour), 24*time.Hour, "d", time.Hour, "h")
	case d >= time.Hour:
		return units(d.Round(time.Minute), time.Hour, "h", time.Minute, "m")
	case d >= time.Minute:
		return units(d.Round(time.Second), time.Minute, "m", time.Second, "s")
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d == 0:
		return "0s"
	}
	return d.Round(time.Microsecond).String()
}

func units(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d%s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf("%d%s", rest, smallName)
	}
	return s
}

// day prints a time as near to now as it can be read: "14:02", "Tue 09:14", "22 Nov 14:02", "2025-11-22".
func day(t, now time.Time) string {
	t = t.In(now.Location())
	gap := now.Sub(t).Abs()
	switch {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return t.Format("15:04")
	case gap < 6*24*time.Hour:
		return t.Format("Mon 15:04")
	case gap < 300*24*time.Hour:
		return t.Format("2 Jan 15:04")
	}
	return t.Format(time.DateOnly)
}

// firstLine is the beginning of a text that may have many lines, as long as fits beside others.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 100 {
		return string(r[:99]) + "…"
	}
	return s
}

// list joins names as a sentence does: "a", "a and b", "a, b and c".
func list(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// ago and in say how far a time is.
func ago(t, now time.Time) string { return short(max(now.Sub(t), 0)) + " ago" }

func in(t, now time.Time) string {
	if !t.After(now) {
		return "now"
	}
	return "in " + short(t.Sub(now))
}

// size prints a number of bytes.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return plural(int(n), "byte")
}

// plural prints "1 error" and "2 errors".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
