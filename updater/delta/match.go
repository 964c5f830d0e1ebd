package delta

import "context"

// block is a stretch of the new file that is nearly one of the old file.
type block struct{ old, new, n int }

// longMatch is from where on a match is believed without looking for a longer one at the next byte. It bounds the
// time for files with long runs of one byte, for which the search alone would be quadratic.
const longMatch = 256

// match finds the blocks of new, in the order of new, as the classic bsdiff does: exact matches are the seeds,
// taken where they explain more of new than going on with the last block would, and extended to both sides for as
// long as at least half of the bytes are the same.
func match(ctx context.Context, x *index, fresh []byte) ([]block, error) {
	m := matcher{index: x, fresh: fresh}
	for m.scan < len(fresh) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		score := m.advance()
		if m.n != score || m.scan == len(fresh) {
			m.cut()
		}
	}
	return m.blocks, nil
}

type matcher struct {
	*index
	fresh  []byte
	blocks []block

	last  block // begun and not ended; n is not used
	scan  int   // in new: all before it is decided
	at, n int   // the match for scan
}

// alike says whether byte i of new is what going on with the last block would give.
func (m *matcher) alike(i int) bool {
	j := i - m.last.new + m.last.old
	return j < len(m.text) && m.text[j] == m.fresh[i]
}

// advance moves scan to the next match that is worth a look, and returns how many of its bytes going on with the
// last block would get right.
func (m *matcher) advance() (score int) {
	m.scan += m.n
	m.n = 0
	for seen := m.scan; m.scan < len(m.fresh); m.scan++ {
		if m.n > longMatch {
			m.at, m.n = m.at+1, m.n-1
		} else {
			m.at, m.n = m.longest(m.fresh[m.scan:])
		}
		for ; seen < m.scan+m.n; seen++ {
			if m.alike(seen) {
				score++
			}
		}
		if m.n == score && m.n > 0 || m.n > score+8 {
			return score
		}
		if seen == m.scan {
			seen++ // nothing matches here, and nothing was counted
		} else if m.alike(m.scan) {
			score--
		}
	}
	m.n = 0
	return score
}

// cut ends the last block and begins one with the match, each as long as pays.
func (m *matcher) cut() {
	forward := m.forward()
	back := 0
	if m.scan < len(m.fresh) {
		back = m.backward()
	}
	if over := m.last.new + forward - (m.scan - back); over > 0 {
		keep := m.share(m.last.new+forward-over, over)
		forward += keep - over
		back -= keep
	}
	if forward > 0 {
		m.blocks = append(m.blocks, block{m.last.old, m.last.new, forward})
	}
	m.last = block{old: m.at - back, new: m.scan - back}
}

// forward is how far the last block reaches: to where the same bytes outnumber the others most.
func (m *matcher) forward() (n int) {
	same, best := 0, 0
	for i := 0; m.last.new+i < m.scan && m.last.old+i < len(m.text); {
		if m.alike(m.last.new + i) {
			same++
		}
		i++
		if same*2-i > best {
			best, n = same*2-i, i
		}
	}
	return n
}

// backward is how far before scan the match begins.
func (m *matcher) backward() (n int) {
	same, best := 0, 0
	for i := 1; m.scan-i >= m.last.new && m.at >= i; i++ {
		if m.text[m.at-i] == m.fresh[m.scan-i] {
			same++
		}
		if same*2-i > best {
			best, n = same*2-i, i
		}
	}
	return n
}

// share says how many of the n bytes from which both blocks reach for the last block keeps.
func (m *matcher) share(from, n int) (keep int) {
	lead, best := 0, 0
	for i := range n {
		if m.alike(from + i) {
			lead++
		}
		if m.text[from+i-m.scan+m.at] == m.fresh[from+i] {
			lead--
		}
		if lead > best {
			best, keep = lead, i+1
		}
	}
	return keep
}
