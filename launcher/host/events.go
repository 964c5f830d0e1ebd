package host

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// Events of the system's log have ids that never change their meaning; docs/WINDOWS.md has the table. An id
// is found by the attribute "kind" of a log record. They lie between 1 and 1000, the messages that
// EventCreate.exe has.
var eventIDs = map[string]uint32{
	"running": 1, "stopping": 2, "stopped": 3, "reloaded": 4, "refused": 5, "paused": 6, "resumed": 7, "hung": 8,
	"ended": 9, "unprotected": 10,

	"start": 100, "exit": 101, "restart": 102, "switch": 103, "commit": 104, "rollback": 105, "quarantine": 106,
	"alarm": 107, "end": 108, "order": 109, "drain": 110, "boot": 111, "turn": 112,
	"takeover": 113, "retry": 114, "collect": 115, "probe": 116, "watch": 117, "lease": 118, "choose": 119, "check": 120, "download": 121, "verify": 122, "mirror": 123,
	"hook": 124, "self-check": 125, "launcher": 126,
}

// Ids of what has no kind of its own.
const (
	otherInfo    = 900
	otherWarning = 901
	otherError   = 902
)

// told are the kinds that an administrator wants to read in the system's log when nothing is wrong. All
// warnings and errors go there, and everything to the file.
var told = map[string]bool{
	"running": true, "stopping": true, "stopped": true, "reloaded": true, "paused": true, "resumed": true,
	"exit": true, "restart": true, "switch": true, "commit": true, "rollback": true, "quarantine": true, "takeover": true, "end": true, "order": true,
	"hook": true, "launcher": true,
}

// eventType is the severity of an entry of the Event Log, as ReportEvent numbers it.
type eventType uint16

const (
	typeError       eventType = 1
	typeWarning     eventType = 2
	typeInformation eventType = 4
)

// severity maps a level: debug and info are Information, warning is Warning, error and above are Error.
func severity(l slog.Level) eventType {
	switch {
	case l >= slog.LevelError:
		return typeError
	case l >= slog.LevelWarn:
		return typeWarning
	}
	return typeInformation
}

// maxEvent is the most that ReportEvent takes for one string, in characters, less room for its own.
const maxEvent = 31000

// recorder writes one entry to the system's log.
type recorder func(t eventType, id uint32, text string) error

// eventHandler is a slog.Handler that gives every record its event id, passes it on to the next handler,
// and writes what an administrator wants to see to the system's log as well.
type eventHandler struct {
	next   slog.Handler
	record recorder // nil: there is no system's log beside next
	mu     *sync.Mutex
	attrs  []slog.Attr // from With
	group  string
}

func newEventHandler(next slog.Handler, record recorder) *eventHandler {
	return &eventHandler{next: next, record: record, mu: new(sync.Mutex)}
}

// Enabled follows the level of the log.
func (h *eventHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// WithAttrs returns a handler that adds attrs to every record.
func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.next = h.next.WithAttrs(attrs)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		c.attrs = append(c.attrs[:len(c.attrs):len(c.attrs)], a)
	}
	return &c
}

// WithGroup returns a handler whose further attributes are named GROUP.KEY.
func (h *eventHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	c.group = h.group + name + "."
	return &c
}

// Handle writes r. A system's log that refuses does not keep it from the file.
func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	id, tell := h.classify(r)
	r = r.Clone()
	r.AddAttrs(slog.Uint64("event_id", uint64(id)))
	err := h.next.Handle(ctx, r)
	if h.record == nil || !tell {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if rerr := h.record(severity(r.Level), id, h.text(r)); rerr != nil && err == nil {
		err = fmt.Errorf("write to the system's log: %w", rerr)
	}
	return err
}

// classify finds the id of a record and whether the system's log gets it.
func (h *eventHandler) classify(r slog.Record) (id uint32, tell bool) {
	kind := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "kind" {
			kind = a.Value.String()
		}
		return kind == ""
	})
	id, known := eventIDs[kind]
	switch {
	case known:
	case r.Level >= slog.LevelError:
		id = otherError
	case r.Level >= slog.LevelWarn:
		id = otherWarning
	default:
		id = otherInfo
	}
	return id, told[kind] || r.Level >= slog.LevelWarn
}

// text is a record as an administrator reads it: the sentence, then one line for each attribute.
func (h *eventHandler) text(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Message)
	line := func(key string, v slog.Value) {
		if s := v.Resolve().String(); s != "" {
			fmt.Fprintf(&b, "\r\n%s: %s", key, s)
		}
	}
	for _, a := range h.attrs {
		line(a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "event_id" {
			line(h.group+a.Key, a.Value)
		}
		return true
	})
	text := strings.ReplaceAll(b.String(), "\x00", "")
	if len(text) > maxEvent {
		text = text[:maxEvent] + " …"
	}
	return text
}
