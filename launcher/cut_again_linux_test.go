package main

import (
	"flag"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

var (
	again   = flag.Int("again", 1, "cut the recovery from one of so many cuts")
	seconds = flag.Int("seconds", 1, "second cuts by chance after each first one; 0 is at every operation, which takes hours")
)

// The power fails at every operation, and again at every operation of the recovery from each. With -cutseed 1 nothing is
// left that was not synced, with 2 everything is, and others throw for each thing.
func TestLauncherCutPowerTwice(t *testing.T) {
	eachCourse(t, "power, power", func(m *machine, _ *rand.Rand) {
		first, _ := m.film(*cutSeed - 1)
		for i := 0; i < len(first); i += steps() {
			m.start = first[i]
			second, _ := m.film(*cutSeed - 1)
			for k := 0; k < len(second); k += steps() {
				m.start = second[k]
				m.trial()
			}
		}
	})
}

// The recovery from a cut is cut again, in the same way or in another: what a launcher left unsynced when it died
// is there for the next one, and gone after a power cut. In which way, is drawn for each first cut, or with -seconds 0 it
// is each.
func TestLauncherCutInRecovery(t *testing.T) {
	for first, kinds := range map[cutKind][]cutKind{
		power: {launcher, engine}, launcher: {power, launcher, engine}, engine: {power, engine},
	} {
		eachCourse(t, first.String(), func(m *machine, rng *rand.Rand) {
			if first == power {
				m.afterPower(kinds, rng)
				return
			}
			for k := rng.IntN(*again); m.recoveries(kinds, rng, cutAt{first, k}); k += *again * steps() {
			}
		})
	}
}

func (m *machine) afterPower(kinds []cutKind, rng *rand.Rand) {
	first, _ := m.film(rng.Uint64N(durabletest.Seeds))
	for i := rng.IntN(*again); i < len(first); i += *again * steps() {
		m.start = first[i]
		m.recoveries(kinds, rng)
	}
}

// recoveries cuts in what follows a first cut, or the start, in one or all of these ways. It says whether the first cut
// came.
func (m *machine) recoveries(kinds []cutKind, rng *rand.Rand, first ...cutAt) (came bool) {
	if *seconds > 0 {
		return m.recovery(kinds[rng.IntN(len(kinds))], rng, first...)
	}
	for _, kind := range kinds {
		came = m.recovery(kind, rng, first...)
	}
	return came
}

// recovery is recoveries in one way.
func (m *machine) recovery(kind cutKind, rng *rand.Rand, first ...cutAt) (came bool) {
	if kind == power {
		return m.powerInRecovery(rng, first)
	}
	if *seconds == 0 {
		done := len(first) + 1
		for k := 0; done > len(first); k++ {
			done = m.trial(append(first, cutAt{kind, k})...)
		}
		return done == len(first)
	}
	left := m.length - m.start.op
	for _, c := range first {
		left -= c.op
	}
	for range *seconds {
		came = m.trial(append(first, cutAt{kind, rng.IntN(max(left, 30))})...) >= len(first)
	}
	return came
}

// powerInRecovery is recovery where the power fails. The film of the first cut has all that follows.
func (m *machine) powerInRecovery(rng *rand.Rand, first []cutAt) (came bool) {
	list, came := m.film(rng.Uint64N(durabletest.Seeds), first...)
	if !came {
		return false
	}
	if *seconds > 0 {
		rng.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		list = list[:min(*seconds, len(list))]
	}
	defer func(start scene) { m.start = start }(m.start)
	for _, m.start = range list {
		m.trial()
	}
	return true
}

// film cuts a course, lets it go to its end, and returns what there would have been if the power had failed in what
// followed: nothing is left of a machine then but its disk, so one run has all there is to begin again from. Of
// operations in a row that leave the same it keeps one. It also says whether all cuts came.
func (m *machine) film(seed uint64, cuts ...cutAt) (list []scene, came bool) {
	op, last := m.start.op, m.start.disk
	for _, c := range cuts {
		op += c.op
	}
	m.shoot = func(d *durabletest.Disk) {
		d.Film(seed, func(found *durabletest.Disk) {
			op++
			if found.Same(last) {
				return
			}
			owners, err := os.ReadFile(m.lease())
			if err != nil {
				m.t.Error(err)
			}
			last, list = found, append(list, scene{op, seed, found, owners})
		})
	}
	defer func() { m.shoot = func(*durabletest.Disk) {} }()
	done := m.trial(cuts...)
	return list, done == len(cuts)
}
