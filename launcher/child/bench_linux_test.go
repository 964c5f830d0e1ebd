package child

import (
	"log/slog"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// BenchmarkSpawnReady is from Start to Ready of an SDK program, both disk syncs of the record included.
func BenchmarkSpawnReady(b *testing.B) {
	o := options(b)
	o.Log = slog.New(slog.DiscardHandler)
	h := open(b, o)
	s := program(b, SDK, "sdk", "")
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		p, err := h.Start(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Ready(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		p.Stop(b.Context(), 0)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkPlainSpawn is what the operating system and the Go runtime of the program cost by themselves.
func BenchmarkPlainSpawn(b *testing.B) {
	for b.Loop() {
		c := exec.Command("/proc/self/exe")
		c.Env = []string{roleEnv + "=exit", "TS_TEST_MODE=0"}
		if err := c.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
