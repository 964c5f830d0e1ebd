package control

import (
	"maps"
	"sync"

	"github.com/turnstone-go/turnstone/updater"
)

// backlog is how many events a follower may be behind. One that is further behind is cut off and told so:
// waiting for it would hold up the engine, and leaving events out could hide the outcome.
const backlog = 1024

// hub hands every event to every follower without waiting for any.
type hub struct {
	mu        sync.Mutex
	followers map[chan updater.Event]struct{}
	closed    bool
	ended     map[updater.Outcome]int
}

func (h *hub) publish(ev updater.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ev.Outcome != "" {
		if h.ended == nil {
			h.ended = map[updater.Outcome]int{}
		}
		h.ended[ev.Outcome]++
	}
	for ch := range h.followers {
		select {
		case ch <- ev:
		default:
			h.drop(ch)
		}
	}
}

// outcomes counts the updates that ended.
func (h *hub) outcomes() map[updater.Outcome]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.ended)
}

// follow returns a channel of the events from now on, closed when the follower is cut off, or nil when no
// more followers are taken.
func (h *hub) follow(most int) chan updater.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.followers) >= most {
		return nil
	}
	if h.followers == nil {
		h.followers = map[chan updater.Event]struct{}{}
	}
	ch := make(chan updater.Event, backlog)
	h.followers[ch] = struct{}{}
	return ch
}

func (h *hub) leave(ch chan updater.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(ch)
}

// drop closes ch once; h.mu is held.
func (h *hub) drop(ch chan updater.Event) {
	if _, ok := h.followers[ch]; ok {
		delete(h.followers, ch)
		close(ch)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for ch := range h.followers {
		h.drop(ch)
	}
}
