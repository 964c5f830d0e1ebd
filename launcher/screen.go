package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/schollz/progressbar/v3"

	"github.com/turnstone-go/turnstone/updater"
)

// screen shows events as they come: one line a step, a bar for what takes time if a person looks on, a line
// for every tenth of it if not; with --json, one object a line.
type screen struct {
	app  *app
	live bool
	bar  *progressbar.ProgressBar
	of   string // what the bar, or the tenths, are about
	next int64  // the next tenth that is worth a line
}

func newScreen(a *app) *screen { return &screen{app: a, live: terminal(a.stdout) && !a.json} }

func (s *screen) show(ev updater.Event) {
	switch {
	case s.app.json:
		s.app.print(ev)
	case ev.Total > 0 && ev.Done < ev.Total:
		s.progress(ev)
	default:
		s.close()
		s.line(ev)
	}
}

// close removes the bar.
func (s *screen) close() {
	if s.bar != nil {
		_ = s.bar.Clear() // what cannot be shown is not worth an error
	}
	s.bar, s.of, s.next = nil, "", 0
}

func (s *screen) progress(ev updater.Event) {
	if of := ev.Kind + ev.Number; of != s.of {
		s.close()
		s.of = of
		if s.live {
			s.bar = newBar(s.app.stdout, ev)
		}
	}
	if s.bar != nil {
		_ = s.bar.Set64(ev.Done) // as in close
		return
	}
	if tenth := ev.Done * 10 / ev.Total; tenth >= s.next {
		s.next = tenth + 1
		s.line(ev)
	}
}

func newBar(w io.Writer, ev updater.Event) *progressbar.ProgressBar {
	return progressbar.NewOptions64(ev.Total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(stamp(ev)+ev.Number),
		progressbar.OptionShowBytes(ev.Kind == "download"),
		progressbar.OptionSetWidth(20),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionSetPredictTime(ev.Kind == "download"),
	)
}

func (s *screen) line(ev updater.Event) {
	text := ev.Text
	if ev.Total > 0 && ev.Done < ev.Total {
		text = dots(text, fmt.Sprintf("%d %%", ev.Done*100/ev.Total))
	}
	if ev.Kind == "download" && ev.Done < ev.Total {
		text = dots(text, size(ev.Done)+" of "+size(ev.Total))
	}
	if ev.Err != "" && ev.Err != ev.Text {
		text = strings.TrimPrefix(text+": "+firstLine(ev.Err), ": ")
	}
	fmt.Fprintf(s.app.stdout, "%s%s\n", stamp(ev), strings.TrimSpace(ev.Number+" "+text))
}

// stamp is the beginning of every line.
func stamp(ev updater.Event) string {
	return fmt.Sprintf("%s  %-11s ", ev.At.Local().Format("15:04:05"), ev.Kind)
}
