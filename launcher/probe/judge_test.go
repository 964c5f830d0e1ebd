package probe

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

type round struct {
	candidate, baseline bool
	stats               wire.Stats
}

// play feeds rounds of one second until one is condemned, and returns its number and the verdict.
func play(j *Judge, rounds int, at func(n int) round) (int, error) {
	for n := range rounds {
		time.Sleep(time.Second) // of the bubble's clock
		r := at(n)
		base := Result{OK: r.baseline, At: time.Now()}
		if err := j.Feed(Result{OK: r.candidate, Text: "status 503", At: time.Now()}, &base, r.stats); err != nil {
			return n + 1, err
		}
	}
	return 0, nil
}

func TestJudgeOfProbes(t *testing.T) {
	const rounds = 200
	for _, c := range []struct {
		name string
		at   func(n int) round
		want int // round of the verdict, 0 for none
	}{
		{"both well", func(int) round { return round{candidate: true, baseline: true} }, 0},
		{"only the candidate is down", func(n int) round { return round{candidate: n < 10, baseline: true} }, 13},
		{"both are down", func(n int) round { return round{candidate: n < 10, baseline: n < 10} }, 0},
		{"only the baseline is down", func(n int) round { return round{candidate: true} }, 0},
		{"the baseline notices two rounds later", func(n int) round { return round{candidate: n < 10, baseline: n < 12} }, 0},
		{"the candidate recovers two rounds later", func(n int) round { return round{candidate: n >= 12, baseline: n >= 10} }, 0},
		{"both were down, the candidate stays so", func(n int) round { return round{baseline: n >= 10} }, 13},
		{"the baseline fails now and then", func(n int) round { return round{baseline: n%3 != 0} }, 0},
		{"two in a row now and then", func(n int) round { return round{candidate: n%10 > 1, baseline: true} }, 0},
		{"it flaps", func(n int) round { return round{candidate: n%2 == 0, baseline: true} }, 12},
		{"it flaps with the baseline", func(n int) round { return round{candidate: n%2 == 0, baseline: n%2 == 0} }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := NewJudge(Rules{Fall: 3})
				n, err := play(j, rounds, c.at)
				if n != c.want || (err != nil) != (c.want > 0) || err != nil && !errors.Is(err, ErrUnwell) {
					t.Errorf("verdict in round %d: %v", n, err)
				}
				if len(j.Transcript()) > maxTranscript {
					t.Errorf("transcript of %d", len(j.Transcript()))
				}
			})
		})
	}
}

func TestJudgeWithoutABaselineUsesTheProbeAlone(t *testing.T) {
	j := NewJudge(Rules{Fall: 2})
	if err := j.Feed(Result{OK: true}, nil, wire.Stats{}); err != nil || !j.Well() {
		t.Fatal(err)
	}
	if err := j.Feed(Result{}, nil, wire.Stats{}); err != nil || j.Well() {
		t.Fatal(err)
	}
	err := j.Feed(Result{Text: "status 500"}, nil, wire.Stats{})
	if !errors.Is(err, ErrUnwell) || !strings.Contains(err.Error(), "status 500") || strings.Contains(err.Error(), "before") {
		t.Errorf("verdict: %v", err)
	}
}

func TestJudgeOfNoQuestion(t *testing.T) {
	for _, base := range []*Result{nil, {OK: true}} {
		j := NewJudge(Rules{Fall: 2})
		for range 20 {
			if err := j.Feed(Result{Mute: true}, base, wire.Stats{}); err != nil || j.Well() {
				t.Fatalf("a command that could not be started speaks for or against the version: %v", err)
			}
		}
	}
}

func TestJudgeOfAnswers(t *testing.T) {
	// rate of answers a second, of which every nth is a 5xx (0: none)
	load := func(rate, nth int) func(int) round {
		return func(n int) round {
			s := wire.Stats{Requests: uint64(rate * n)}
			if nth > 0 {
				s.Errors5xx = s.Requests / uint64(nth)
			}
			return round{candidate: true, baseline: true, stats: s}
		}
	}
	calm := wire.Stats{Requests: 10000, Errors5xx: 10}
	for _, c := range []struct {
		name     string
		baseline wire.Stats
		at       func(int) round
		want     bool
	}{
		{"no errors", calm, load(100, 0), false},
		{"a few more than usual", calm, load(100, 50), false},
		{"every fifth", calm, load(100, 5), true},
		{"every one", calm, load(100, 1), true},
		{"as many as before", wire.Stats{Requests: 10000, Errors5xx: 2000}, load(100, 5), false},
		{"no baseline to compare with", wire.Stats{Requests: 19}, load(100, 1), false},
		{"too few answers in the window", calm, func(n int) round { // 19 in 30 s, all errors
			s := uint64(n) * 19 / 31
			return round{candidate: true, baseline: true, stats: wire.Stats{Requests: s, Errors5xx: s}}
		}, false},
		{"just enough answers", calm, load(1, 1), true},
		{"the dependency is down for both", calm, func(n int) round {
			r := load(100, 1)(n)
			r.baseline = false
			return r
		}, false},
		{"the dependency was down for both and came back", calm, func(n int) round {
			r := load(100, 0)(n)
			r.stats.Errors5xx = uint64(100 * min(max(n-5, 0), 15))
			r.baseline = n < 5 || n > 20
			return r
		}, false},
		{"errors before a restart are not counted", calm, func(n int) round {
			if n < 1 {
				return round{candidate: true, baseline: true, stats: wire.Stats{Requests: 5000, Errors5xx: 5000}}
			}
			return load(100, 0)(n)
		}, false},
		{"errors from before the watch are not counted", calm, func(n int) round {
			r := load(100, 0)(n)
			r.stats.Requests += 5000
			r.stats.Errors5xx += 5000
			return r
		}, false},
		{"old errors leave the window", calm, func(n int) round { // ten errors, silence, then good answers
			s := wire.Stats{Errors5xx: uint64(min(n, 10))}
			s.Requests = s.Errors5xx + uint64(max(n-60, 0))
			return round{candidate: true, baseline: true, stats: s}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := play(NewJudge(Rules{Errors: 0.05, Baseline: c.baseline}), 300, c.at)
				if (err != nil) != c.want {
					t.Errorf("verdict: %v", err)
				}
			})
		})
	}
}

// However a candidate flaps: when half of its answers in 4*Fall rounds are bad, these are enough for a verdict, and when
// neither so many nor Fall in a row are, they are not.
func TestJudgeIsNeverLate(t *testing.T) {
	const fall = 3
	for pattern := range 1 << (4 * fall) {
		j, base, condemned := NewJudge(Rules{Fall: fall}), Result{OK: true}, 0
		for range 4 * fall { // it was well before
			if err := j.Feed(Result{OK: true}, &base, wire.Stats{}); err != nil {
				t.Fatal(err)
			}
		}
		failed, row, most := 0, 0, 0
		for n := range 4 * fall {
			bad := pattern>>n&1 == 1
			if row++; bad {
				failed++
			} else {
				row = 0
			}
			most = max(most, row)
			if j.Feed(Result{OK: !bad}, &base, wire.Stats{}) != nil && condemned == 0 {
				condemned = n + 1
			}
		}
		if (condemned > 0) != (2*failed >= 4*fall || most >= fall) {
			t.Errorf("answers %012b: verdict in round %d", pattern, condemned)
		}
	}
}

// Shares are compared from the 20th answer of each on, in the round that sees it.
func TestJudgeCountsAnswers(t *testing.T) {
	for _, rate := range []int{1, 5, 19, 20, 1000} {
		synctest.Test(t, func(t *testing.T) {
			n, err := play(NewJudge(Rules{Errors: 0.05, Baseline: wire.Stats{Requests: 20}}), 100, func(n int) round {
				return round{candidate: true, baseline: true, stats: wire.Stats{Requests: uint64(rate * n), Errors5xx: uint64(rate * n)}}
			})
			if want := (20+rate-1)/rate + 1; n != want { // the first round has none
				t.Errorf("%d answers a round: verdict in round %d, want %d: %v", rate, n, want, err)
			}
		})
	}
}

// Chance must not condemn: with few answers one error more is a large share.
func TestJudgeAllowsForChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		few := wire.Stats{Requests: 20}
		_, err := play(NewJudge(Rules{Errors: 0.05, Baseline: few}), 25, func(n int) round {
			return round{candidate: true, baseline: true, stats: wire.Stats{Requests: uint64(n), Errors5xx: uint64(min(n, 2))}}
		})
		if err != nil {
			t.Errorf("two errors in twenty answers condemned: %v", err)
		}
	})
}

func TestJudgeKeepsABoundedWindow(t *testing.T) {
	j := NewJudge(Rules{Window: time.Hour})
	now := time.Now()
	for n := range 5000 {
		if err := j.Feed(Result{OK: true, At: now.Add(time.Duration(n) * time.Millisecond)}, nil, wire.Stats{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(j.counted) > maxCounted {
		t.Errorf("%d samples", len(j.counted))
	}
}
