package child

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "42 (a ) R (b) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3"
	got, err := parseStat(line)
	want := stat{pid: 42, parent: 1, group: 40, session: 39, state: 'S', start: 98765}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "42", "42 )(", "42 (x) S 1", strings.Replace(line, "98765", "-1", 1)} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestScanListening(t *testing.T) {
	// As on a little-endian machine: 127.0.0.1:8080, 0.0.0.0:8080, [::1]:8080, an open connection.
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1
   2: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 13 1
   3: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 14 1
`
	for addr, want := range map[string][]string{
		"127.0.0.1:8080":          {"11", "12"},
		"[::1]:8080":              {"12", "13"},
		"[::ffff:127.0.0.1]:8080": {"11", "12"},
		"127.0.0.1:8081":          nil,
	} {
		got, err := scanListening(strings.NewReader(table), netip.MustParseAddrPort(addr))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", addr, got, err)
		}
	}
	if _, err := kernelAddr("zz:1"); err == nil {
		t.Error("zz is accepted")
	}
}

// FuzzStat: a process may call itself anything; what the kernel says of it is read all the same.
func FuzzStat(f *testing.F) {
	for _, name := range []string{"payload", "a ) R (b", ")", "(", ") S 1 2 3", "\n", ""} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := parseStat("42 (" + name + ") S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3")
		want := stat{pid: 42, parent: 1, group: 40, session: 39, state: 'S', start: 98765}
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
		_, _ = parseStat(name) // does not panic
	})
}
