package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	all := []float64{5, 1, 4, 2, 3}
	for _, tc := range []struct{ q, want float64 }{{0, 1}, {0.25, 2}, {0.5, 3}, {0.9, 4.6}, {1, 5}} {
		if got := quantile(all, tc.q); got != tc.want {
			t.Errorf("quantile %v of %v is %v, want %v", tc.q, all, got, tc.want)
		}
	}
	if all[0] != 5 {
		t.Error("quantile sorted its argument")
	}
	if got := median([]float64{1, 2}); got != 1.5 {
		t.Errorf("the median of 1 and 2 is %v", got)
	}
	if got := median(nil); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
}

// The interval holds the median, and is narrower the less the values are spread.
func TestInterval(t *testing.T) {
	wide, narrow := []float64{0.8, 0.9, 1, 1.1, 1.2, 0.85, 0.95, 1.05, 1.15, 1}, []float64{0.99, 1, 1.01, 1, 0.995, 1.005, 1, 1, 0.99, 1.01}
	low, high := interval(wide)
	if m := median(wide); low > m || high < m || low < 0.8 || high > 1.2 {
		t.Errorf("interval %v to %v of values with the median %v", low, high, m)
	}
	nlow, nhigh := interval(narrow)
	if nhigh-nlow >= high-low {
		t.Errorf("%v to %v is not narrower than %v to %v", nlow, nhigh, low, high)
	}
}

// Every release of a line is the same program with its own version in it.
func TestLine(t *testing.T) {
	l := &line{dir: t.TempDir(), build: []byte("head " + anyVersion + " tail " + anyVersion + ".")}
	seen := map[string]bool{}
	for n := range 256 {
		file, err := l.release(version(n))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) != len(l.build) || bytes.Count(text, []byte(version(n))) != 2 || seen[string(text)] {
			t.Fatalf("release %d is %q", n, text)
		}
		seen[string(text)] = true
	}
}

// A figure that misses its target is counted and shown; one without a target is neither.
func TestReport(t *testing.T) {
	b := &bench{part: "test"}
	b.atMost(15, "at the limit", 15, "ms", "")
	b.atMost(0, "over", 1, "", "")
	b.atLeast(0.97, "ratio", 0.9712, "", "").between(0.95, 0.99)
	b.atLeast(100, "under", 99, "", "")
	b.note("apart", 7, "", "")
	r := b.report()
	if r.Missed != 2 {
		t.Errorf("%d missed, want 2", r.Missed)
	}
	var out bytes.Buffer
	r.print(&out)
	var got []string
	for text := range strings.Lines(out.String()) {
		if strings.HasPrefix(text, "test") {
			got = append(got, strings.Join(strings.Fields(text), " "))
		}
	}
	want := []string{
		"test at the limit 15 ms <= 15 ok", "test over 1 <= 0 MISSED", "test ratio 0.971 [0.950, 0.990] >= 0.97 ok",
		"test under 99 >= 100 MISSED", "test apart 7",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the table says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose("", false); err != nil || len(all) != len(allParts) {
		t.Errorf("without a name: %d parts, %v", len(all), err)
	}
	if some, err := choose("idle,spawn", false); err != nil || len(some) != 2 || some[0].name != "idle" {
		t.Errorf("two names: %v, %v", some, err)
	}
	if _, err := choose("idle", true); err == nil {
		t.Error("a part that cannot be measured on Windows is")
	}
	if _, err := choose("idel", false); err == nil || !strings.Contains(err.Error(), "idle") {
		t.Errorf("a name that is none: %v", err)
	}
}
