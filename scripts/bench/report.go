package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// figure is one line of the table.
type figure struct {
	Part   string   `json:"part"`
	Name   string   `json:"name"`
	Value  float64  `json:"value"`
	Unit   string   `json:"unit,omitempty"`
	Low    *float64 `json:"low,omitempty"` // of a 95 % interval
	High   *float64 `json:"high,omitempty"`
	Target string   `json:"target,omitempty"` // "" is for information
	OK     *bool    `json:"ok,omitempty"`     // nil without a target
	Note   string   `json:"note,omitempty"`
}

// note adds a figure that has no target.
func (b *bench) note(name string, value float64, unit, note string) *figure {
	b.figures = append(b.figures, figure{Part: b.part, Name: name, Value: value, Unit: unit, Note: note})
	return &b.figures[len(b.figures)-1]
}

// atMost adds a figure with the most that it may be.
func (b *bench) atMost(most float64, name string, value float64, unit, note string) *figure {
	return b.note(name, value, unit, note).judge(value <= most, "<= "+number(most))
}

// atLeast adds a figure with the least that it must be.
func (b *bench) atLeast(least float64, name string, value float64, unit, note string) *figure {
	return b.note(name, value, unit, note).judge(value >= least, ">= "+number(least))
}

func (f *figure) judge(ok bool, target string) *figure {
	f.OK, f.Target = &ok, target
	return f
}

func (f *figure) between(low, high float64) { f.Low, f.High = &low, &high }

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// report is all figures of a run.
type report struct {
	Machine string   `json:"machine"`
	Quick   bool     `json:"quick,omitempty"`
	Figures []figure `json:"figures"`
	Missed  int      `json:"missed"`
	Error   string   `json:"error,omitempty"`
}

func (b *bench) report() report {
	r := report{Machine: thisMachine(), Quick: b.quick, Figures: b.figures}
	for _, f := range b.figures {
		if f.OK != nil && !*f.OK {
			r.Missed++
		}
	}
	return r
}

func (r report) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s\n", r.Machine)
	if r.Quick {
		fmt.Fprintln(out, "quick: few runs, these figures mean little")
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "part\tfigure\tmeasured\ttarget\t\tnote")
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Part, f.Name, f.measured(), f.Target, f.verdict(), f.Note)
	}
	_ = w.Flush() // the JSON and the exit code count
	fmt.Fprintf(out, "%d missed\n", r.Missed)
}

func (f figure) measured() string {
	digits := 3
	switch {
	case f.Value == float64(int64(f.Value)):
		digits = 0
	case f.Value >= 100:
		digits = 1
	case f.Value >= 10:
		digits = 2
	}
	text := strconv.FormatFloat(f.Value, 'f', digits, 64)
	if f.Unit != "" {
		text += " " + f.Unit
	}
	if f.Low != nil {
		text += fmt.Sprintf(" [%.3f, %.3f]", *f.Low, *f.High)
	}
	return text
}

func (f figure) verdict() string {
	switch {
	case f.OK == nil:
		return ""
	case *f.OK:
		return "ok"
	}
	return "MISSED"
}

// thisMachine names the machine by what a figure depends on.
func thisMachine() string {
	kernel := "unknown kernel"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("%d cores, %s %s, %s", runtime.NumCPU(), runtime.GOOS, kernel, runtime.Version())
}

// loadAverage says how busy the machine is with other things.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
