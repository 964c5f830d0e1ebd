package main

import (
	"fmt"
	"strconv"
	"strings"
)

// Rate is a number of bytes per second. As text it is a whole number with a unit: "500kB", "2MiB".
type Rate int64

// rateUnits are in the order in which a text is printed: the first that divides it.
var rateUnits = []struct {
	name  string
	bytes int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
}

// maxRate is 1 TB a second; more is a slip.
const maxRate = 1e12

// MarshalText prints the rate so that UnmarshalText reads the same.
func (r Rate) MarshalText() ([]byte, error) {
	if r == 0 {
		return nil, nil
	}
	for _, u := range rateUnits {
		if int64(r)%u.bytes == 0 {
			return fmt.Appendf(nil, "%d%s", int64(r)/u.bytes, u.name), nil
		}
	}
	return nil, fmt.Errorf("%d is no rate", int64(r))
}

// UnmarshalText reads a rate. Nothing is no limit.
func (r *Rate) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "" {
		*r = 0
		return nil
	}
	digits := strings.TrimRight(s, "BGKMik")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || digits[0] == '+' {
		return fmt.Errorf("%q is no rate", s)
	}
	for _, u := range rateUnits {
		if s[len(digits):] == u.name && n <= maxRate/u.bytes {
			*r = Rate(n * u.bytes)
			return nil
		}
	}
	return fmt.Errorf("%q is no rate", s)
}
