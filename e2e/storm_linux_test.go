package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// The launcher dies at every change of the disk in every phase of an update, of a rollback, and of an update
// that fails; at every moment of a switch; again while it recovers from that; and at any time. No client notices.
func TestKillStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("hundreds of deaths take minutes; -short was given")
	}
	for name, c := range map[string]struct {
		kind kind
		rage func(*testing.T, *storm)
	}{
		"good": {handoff, stormOfGood}, "bad": {handoff, stormOfBad}, "again": {handoff, stormInRecovery},
		"random": {handoff, stormAtRandom}, "payload": {handoff, stormOfPayloads},
		"proxy": {proxy, stormOfProxy}, "activation": {activation, stormOfActivation},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := stormy(t, c.kind)
			c.rage(t, h)
			h.over(t)
		})
	}
}

func stormOfGood(t *testing.T, h *storm) {
	for _, p := range []journal.Phase{journal.Idle, journal.Warming, journal.Switching, journal.Probation, journal.Retiring} {
		h.until(t, p, forward, back)
	}
	h.moments(t, journal.Switching, 200*time.Microsecond, forward, back)
	next := h.fresh(t)
	for _, p := range []journal.Phase{journal.Fetching, journal.Staging} {
		for n := range 10 {
			point := fmt.Sprintf("%s/%d", p, n)
			h.round(t, next(), point, "")
			h.unhurt(t, point)
		}
	}
}

func stormOfBad(t *testing.T, h *storm) {
	for _, p := range []journal.Phase{
		journal.Fetching, journal.Staging, journal.Warming, journal.Switching, journal.Probation, journal.Reverting, journal.Discarding,
	} {
		h.until(t, p, astray)
	}
	h.moments(t, journal.Reverting, 200*time.Microsecond, astray)
}

// moments dies in the time in which traffic moves, of which the disk sees little, at 15 moments that are a step apart.
func (h *storm) moments(t *testing.T, phase journal.Phase, step time.Duration, moves ...func() move) {
	t.Helper()
	for n := range 15 {
		for _, m := range moves {
			point := fmt.Sprintf("%s+%s", phase, time.Duration(n)*step)
			h.round(t, m(), point, "")
			h.unhurt(t, point)
		}
	}
}

// stormInRecovery has the next launcher die as well, at every change that it makes before it answers.
func stormInRecovery(t *testing.T, h *storm) {
	for _, first := range []struct {
		move  func() move
		point string
		home  func() move // leads back to where it began, if it does not end there
	}{
		{astray, "fetching/2", nil}, {astray, "warming/6", nil}, {astray, "probation/1", nil}, {astray, "reverting/1", nil}, {astray, "discarding/1", nil},
		{forward, "switching/1", back}, {forward, "probation/1", back}, {forward, "retiring/2", back},
	} {
		for n := 1; ; n++ {
			again := fmt.Sprintf("boot/%d", n)
			deaths := h.deaths
			if !h.round(t, first.move(), first.point, again) {
				t.Fatalf("%s was not reached", first.point)
			}
			if first.home != nil {
				h.round(t, first.home(), "", "")
			}
			h.unhurt(t, first.point+" and "+again)
			if h.deaths == deaths+1 {
				t.Logf("after %s: %d points in the recovery", first.point, n-1)
				break
			}
		}
	}
}

// stormAtRandom kills at any time, the next launcher too every other time. STORM_SEED repeats one.
func stormAtRandom(t *testing.T, h *storm) {
	h.random(t, 100, 800*time.Millisecond, func() { kill(t, h.Stage) })
}

// stormOfPayloads kills payloads, whichever there are, at any time of an update. That costs clients what was
// inside them and nothing else; the update may fail of it, and what serves then is whole.
func stormOfPayloads(t *testing.T, h *storm) {
	rng := seeded(t)
	next := h.fresh(t)
	for range 40 {
		m := next()
		h.order(t, m.verb, m.req)
		stage.Wait(t.Context(), rng.N(500*time.Millisecond))
		victims := status(t, h.Stage).Processes
		if len(victims) == 0 { // it was the one, and is being started again
			continue
		}
		victim := victims[rng.IntN(len(victims))]
		h.slay(t, victim)
		eventually(t, "the update comes to its end", func() bool {
			st, _, err := journal.Read(durable.OS(), h.journal())
			return err == nil && st.Phase == journal.Idle && st.Want == nil
		})
		h.sound(t, "the death of "+victim.Number+", "+victim.State)
	}
	r := h.load.Report()
	most := 0
	for _, open := range r.OpenAt {
		most += open
	}
	if r.Lost() || r.CutByCrash > most {
		t.Errorf("lost more than the crashes cost, of which %d were cut and %d could have been: %+v", r.CutByCrash, most, r)
	}
}

// slay ends a payload, and tells the clients' account when it is dead.
func (h *storm) slay(t *testing.T, p control.Process) {
	t.Helper()
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		return // it had ended by itself
	}
	h.load.Crashed(time.Now())                         // for who notices before we do
	eventually(t, "the payload is dead", func() bool { // its launcher may take a while to look
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		threads, terr := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID)) // the first may be dead while another still accepts
		return err != nil || terr != nil || strings.Contains(string(b), ") Z ") && len(threads) <= 1
	})
	h.load.Crashed(time.Now())
	h.deaths++
}

// seeded is a source of chance that a failure can be repeated with.
func seeded(t *testing.T) *source {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("STORM_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("STORM_SEED=%d", seed)
	return &source{rand.New(rand.NewPCG(seed, 0))}
}

type source struct{ *rand.Rand }

func (s *source) N(d time.Duration) time.Duration { return time.Duration(s.Int64N(int64(d))) }
