package load

import "time"

// tenth is how finely the last second is remembered.
const tenth = 100 * time.Millisecond

// pace counts answers of the last second in tenths.
type pace struct {
	tenths [11]struct{ at, n int64 } // one more than a second, since the newest is not over
}

func (p *pace) add(now time.Time) {
	at := now.UnixNano() / int64(tenth)
	t := &p.tenths[at%int64(len(p.tenths))]
	if t.at != at {
		t.at, t.n = at, 0
	}
	t.n++
}

// lastSecond is how many were added in the ten whole tenths before the one that now is in.
func (p *pace) lastSecond(now time.Time) int {
	at, n := now.UnixNano()/int64(tenth), int64(0)
	for _, t := range p.tenths {
		if t.at < at && t.at >= at-10 {
			n += t.n
		}
	}
	return int(n)
}
