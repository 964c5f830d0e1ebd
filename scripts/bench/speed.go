package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater"
)

// Targets, in milliseconds.
const (
	spawnMost    = 15
	rollbackMost = 20
)

// spawn measures how long a new version takes from the fork to its first accept, with one health probe.
func (b *bench) spawn(ctx context.Context) (err error) {
	good, err := b.newLine(ctx, "")
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, good, stage.Options{Config: map[string]string{
		"health":    "interval = \"50ms\"\ngood = 1\n",
		"probation": "time = \"1ms\"\nmin_requests = 1\n",
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for range b.runs(40, 5) {
		v, err := s.publish(ctx, good)
		if err == nil {
			err = s.settled(ctx, 0)
		}
		if err != nil {
			return err
		}
		if entry, err := s.update(ctx, v); err != nil || entry.Outcome != updater.Committed {
			return fmt.Errorf("update to %s: %w, outcome %s: %s", v, err, entry.Outcome, entry.Reason)
		}
	}
	b.spawned(s)
	return b.syncs(s.Home)
}

// spawned adds what the launcher told of its starts.
func (b *bench) spawned(s *service) {
	all := func(kind, name string) (values []float64) {
		for _, e := range s.told.all(func(e updater.Event) bool { return e.Kind == kind }) {
			if v, ok := e.Figures[name]; ok {
				values = append(values, v)
			}
		}
		return values
	}
	var whole, journal, net []float64
	for _, e := range s.told.all(func(e updater.Event) bool { return e.Kind == "switch" && e.Figures["from_fork_ms"] > 0 }) {
		w, j := e.Figures["from_fork_ms"], e.Figures["journal_ms"]
		whole, journal, net = append(whole, w), append(journal, j), append(net, w-j)
	}
	spread := func(values []float64) string {
		return fmt.Sprintf("median of %d; 90 %% below %.1f ms, slowest %.1f ms", len(values), quantile(values, 0.9), quantile(values, 1))
	}
	b.atMost(spawnMost, "fork to accepting, without the journal's sync", median(net), "ms", spread(net))
	b.note("the same with it", median(whole), "ms", spread(whole))
	part := func(name string, values []float64, note string) { b.note("  "+name, median(values), "ms", note) }
	part("fork to ready and one good probe", all("probe", "ready_ms"), "median")
	part("order to accept until acknowledged", all("switch", "accept_ms"), "median")
	part("journal: the write between the two", journal, "median; the rest is the channel, which is read once more")
	part("before the fork: hashing the version", all("start", "hash_ms"), "median; not in the figure")
	part("before the fork: its record, synced", all("start", "record_ms"), "median; not in the figure")
}

// syncs adds what a write and a sync cost in dir: half of the time of many small writes.
func (b *bench) syncs(dir string) error {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(64 << 10); err != nil {
		return err
	}
	var all []float64
	for i := range b.runs(200, 20) {
		begun := time.Now()
		if _, err := f.WriteAt(make([]byte, 4<<10), int64(i%16)<<12); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		all = append(all, float64(time.Since(begun).Microseconds())/1000)
	}
	b.note("fsync of this machine", median(all), "ms", fmt.Sprintf("p50 of %d writes of 4 KiB; p99 %.2f ms", len(all), quantile(all, 0.99)))
	return nil
}

// rollback measures how long it takes from the verdict on a version whose health fails until the parked one
// has the traffic.
func (b *bench) rollback(ctx context.Context) (err error) {
	good, err := b.newLine(ctx, "")
	if err != nil {
		return err
	}
	bad, err := b.newLine(ctx, "health-fail:0s")
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, good, stage.Options{Config: map[string]string{
		"health":    "interval = \"50ms\"\ngood = 1\n",
		"probation": "time = \"10s\"\n",
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var all []float64
	for range b.runs(40, 5) {
		v, err := s.publish(ctx, bad)
		if err == nil {
			err = s.settled(ctx, 0)
		}
		if err != nil {
			return err
		}
		entry, err := s.update(ctx, v)
		if err != nil || entry.Outcome != updater.RolledBack {
			return fmt.Errorf("update to %s, which is bad: %w, outcome %s: %s", v, err, entry.Outcome, entry.Reason)
		}
		all = append(all, entry.RollbackMS)
	}
	if err := s.Serving(ctx, version(0)); err != nil {
		return err
	}
	b.atMost(rollbackMost, "verdict to traffic moved", median(all), "ms",
		fmt.Sprintf("median of %d, the journal's sync included; 90 %% below %.1f ms, slowest %.1f ms", len(all), quantile(all, 0.9), quantile(all, 1)))
	return nil
}
