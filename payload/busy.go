package payload

import (
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// busy is the set of outstanding wishes not to be switched; the launcher hears the one that ends last.
type busy struct {
	tell func(*wire.Busy)

	mu     sync.Mutex
	wishes map[*wish]struct{}
}

type wish struct {
	reason string
	until  time.Time
	timer  *time.Timer
}

func newBusy(tell func(*wire.Busy)) *busy {
	return &busy{tell: tell, wishes: make(map[*wish]struct{})}
}

func (b *busy) add(reason string, atMost time.Duration) (done func()) {
	w := &wish{reason: clip(reason), until: time.Now().Add(atMost)}
	done = func() { b.remove(w) }
	b.mu.Lock()
	b.wishes[w] = struct{}{}
	w.timer = time.AfterFunc(atMost, done)
	b.tellLocked()
	b.mu.Unlock()
	return done
}

func (b *busy) remove(w *wish) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.wishes[w]; !ok {
		return
	}
	delete(b.wishes, w)
	w.timer.Stop()
	b.tellLocked()
}

// tellLocked is called with b.mu held, so that what is said last is what is true.
func (b *busy) tellLocked() { b.tell(b.latest()) }

func (b *busy) current() *wire.Busy {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.latest()
}

func (b *busy) latest() *wire.Busy {
	var last *wish
	for w := range b.wishes {
		if last == nil || w.until.After(last.until) {
			last = w
		}
	}
	if last == nil {
		return nil
	}
	return &wire.Busy{Reason: last.reason, For: max(time.Until(last.until), 0)}
}
