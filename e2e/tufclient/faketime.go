package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// fakeTime reads the variable FAKETIME as libfaketime does, which cannot reach a Go program: it replaces
// functions of libc, and Go asks the kernel. An absolute time may begin with @; both forms are taken as the
// time now, since a client does not live long enough for its clock to matter. A relative time is a number
// with a sign and one of s, m, h, d, y, seconds if there is none.
//
// https://github.com/wolfcw/libfaketime, section 4 of its README
func fakeTime(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return now.UTC(), nil
	}
	if text[0] == '+' || text[0] == '-' {
		return shifted(text, now)
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04:05.999999999-07:00"} {
		if t, err := time.ParseInLocation(layout, strings.TrimPrefix(text, "@"), time.Local); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("FAKETIME %q: write it as 2006-01-02 15:04:05, @2006-01-02 15:04:05 or +30d", text)
}

func shifted(text string, now time.Time) (time.Time, error) {
	unit := time.Second
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'y': 365 * 24 * time.Hour}
	number := text
	if u, ok := units[text[len(text)-1]]; ok {
		unit, number = u, text[:len(text)-1]
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("FAKETIME %q: %w", text, err)
	}
	return now.Add(time.Duration(n * float64(unit))).UTC(), nil
}
