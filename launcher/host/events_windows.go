package host

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/windows/svc/eventlog"
)

func openLog(name, dir string, level slog.Leveler) (*Log, error) {
	l := &Log{}
	var lines io.Writer = io.Discard
	if dir != "" {
		file, err := openRotating(filepath.Join(dir, "launcher.log"))
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		lines, l.close = file, append(l.close, file)
	}
	record, events, err := openEvents(name)
	if err == nil {
		l.close = append(l.close, events)
	}
	next := slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: level})
	l.Logger = slog.New(newEventHandler(next, record))
	if err != nil { // not worth keeping a service down for
		l.Warn("the Event Log cannot be written: run install again", "err", err)
	}
	return l, nil
}

// openEvents opens the event source that install registered. Windows accepts an unregistered one as well
// and then shows a complaint above each text.
func openEvents(name string) (recorder, io.Closer, error) {
	log, err := eventlog.Open(name)
	if err != nil {
		return nil, nil, err
	}
	record := func(t eventType, id uint32, text string) error {
		switch t {
		case typeError:
			return log.Error(id, text)
		case typeWarning:
			return log.Warning(id, text)
		}
		return log.Info(id, text)
	}
	return record, log, nil
}
