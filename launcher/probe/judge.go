package probe

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// ErrUnwell is evidence against a candidate.
var ErrUnwell = errors.New("unwell")

// Rules say what a Judge takes as evidence. A zero field means its default.
type Rules struct {
	Fall       int           // probes failed in a row; default 3
	Errors     float64       // share of 5xx answers allowed above the baseline's, 0.05 is five in a hundred
	Baseline   wire.Stats    // Requests and Errors5xx of the version before, counted over its last minutes
	MinAnswers uint64        // in Baseline, and of the candidate within Window, before shares are compared; default 20
	Window     time.Duration // over which the candidate's answers are counted; default 30 s
}

// Judge decides whether a candidate in probation is worse than the version before. It is fed once per
// round and holds no clock: the time is that of the results. It is not safe for concurrent use.
type Judge struct {
	rules   Rules
	row     int       // rounds in a row that speak against the candidate
	recent  []bool    // the last rounds, true for one that does
	counted []counted // the candidate's totals within the window, oldest first
	told    []Result
}

// counted is the candidate's totals at one moment.
type counted struct {
	at               time.Time
	answers, errors5 uint64
}

// maxCounted bounds the samples of the window; the oldest go first, which shortens it.
const maxCounted = 1024

// NewJudge makes a judge for one probation.
func NewJudge(r Rules) *Judge {
	if r.Fall <= 0 {
		r.Fall = 3
	}
	if r.MinAnswers == 0 {
		r.MinAnswers = 20
	}
	if r.Window <= 0 {
		r.Window = 30 * time.Second
	}
	return &Judge{rules: r}
}

// Feed takes one round: the answers that candidate and baseline gave to the same question at the same
// time, and the candidate's totals. It returns nil or an ErrUnwell that says why. Baseline is nil when the
// version before does not run; the candidate is then judged alone, and what is down for everybody condemns
// it too. A question that could not be asked counts for nothing. Stats of a program that reports none are zero.
//
// There are three kinds of evidence, and each needs a baseline that was well in the same period:
// Fall failed probes in a row; half of the last 4*Fall probes failed (a version that flaps never fails
// three in a row); a share of 5xx answers that is above the baseline's by more than Errors allows and more
// than chance explains.
func (j *Judge) Feed(candidate Result, baseline *Result, s wire.Stats) error {
	j.told = remember(j.told, candidate)
	alone := baseline == nil
	if !alone && !baseline.OK {
		// Whatever the candidate says now, it says in a world in which its predecessor fails too.
		j.row, j.recent, j.counted = 0, nil, nil
		return nil
	}
	if !candidate.Mute {
		if err := j.probed(candidate, alone); err != nil {
			return err
		}
	}
	return j.answered(candidate.At, s)
}

// Well says whether the last probe of the candidate was good. A probation must not be passed on time alone
// while it is not: with everything down for both nobody is condemned, and nobody has proven anything.
func (j *Judge) Well() bool { return len(j.told) > 0 && j.told[len(j.told)-1].OK }

// Transcript returns the last answers of the candidate, oldest first, at most 32.
func (j *Judge) Transcript() []Result { return slices.Clone(j.told) }

func (j *Judge) probed(r Result, alone bool) error {
	while := " while the version before was well"
	if alone {
		while = ""
	}
	if j.row++; r.OK {
		j.row = 0
	}
	if j.row >= j.rules.Fall {
		return fmt.Errorf("%w: %d probes in a row failed%s, last: %s", ErrUnwell, j.row, while, r.Text)
	}
	size := 4 * j.rules.Fall
	j.recent = append(j.recent, !r.OK)
	if over := len(j.recent) - size; over > 0 {
		j.recent = slices.Delete(j.recent, 0, over)
	}
	failed := 0
	for _, bad := range j.recent {
		if bad {
			failed++
		}
	}
	if len(j.recent) == size && 2*failed >= size {
		return fmt.Errorf("%w: it flaps: %d of the last %d probes failed%s", ErrUnwell, failed, size, while)
	}
	return nil
}

// answered compares the shares of 5xx answers.
func (j *Judge) answered(at time.Time, s wire.Stats) error {
	now := counted{at, s.Requests, s.Errors5xx}
	if n := len(j.counted); n > 0 && (now.answers < j.counted[n-1].answers || now.errors5 < j.counted[n-1].errors5) {
		j.counted = nil // totals never fall: this is another process
	}
	j.counted = append(j.counted, now)
	// One sample at or before the window's begin is kept, to count from.
	for len(j.counted) > maxCounted || len(j.counted) > 1 && !j.counted[1].at.After(at.Add(-j.rules.Window)) {
		j.counted = slices.Delete(j.counted, 0, 1)
	}
	first := j.counted[0]
	n, bad := float64(now.answers-first.answers), float64(now.errors5-first.errors5)
	m, was := float64(j.rules.Baseline.Requests), float64(j.rules.Baseline.Errors5xx)
	least := float64(j.rules.MinAnswers)
	if n < least || m < least {
		return nil
	}
	// Chance alone moves a share by about its standard error, here that of the difference of two shares with
	// both samples pooled. Three of them, on top of what is allowed, are passed by chance about once in a
	// thousand looks, and a look with few answers needs a larger difference.
	pooled := (bad + was) / (n + m)
	margin := 3 * math.Sqrt(pooled*(1-pooled)*(1/n+1/m))
	if bad/n-was/m <= j.rules.Errors+margin {
		return nil
	}
	return fmt.Errorf("%w: %.1f%% of its last %.0f answers were 5xx, %.1f%% of %.0f before it; allowed is %.1f%% more",
		ErrUnwell, 100*bad/n, n, 100*was/m, m, 100*j.rules.Errors)
}
