package updater

import (
	"context"
	"time"

	"github.com/turnstone-go/turnstone/updater/policy"
)

// Feed is the signed world: whatever it returns without an error has been verified.
type Feed interface {
	// Check reads the channel again. An error made with Refused says that what came is not the vendor's.
	Check(ctx context.Context) (policy.Offers, error)
	// Resolve returns the release of that number in the channel last checked, for this platform.
	Resolve(ctx context.Context, number string) (policy.Release, error)
	// Fetch makes the file dst hold v's bytes, synced, with the signed length and digest, and goes on from
	// what dst holds already. Progress counts what is downloaded: all of the file, or a patch that makes it.
	// Wrong bytes are an error made with Refused.
	Fetch(ctx context.Context, v Version, dst string, progress func(done, total int64)) error
	// Verify checks the second, independent signature over the sealed bytes in file. One that does not
	// match is an error made with Bad.
	Verify(ctx context.Context, v Version, file string) error
}

// Site is the living processes and the traffic. Every method is idempotent and returns soon after ctx ends.
// An error made with Bad is evidence against the version named in the call.
type Site interface {
	// Serve makes v the version that serves, starting it if it does not run, with no health gate: at boot
	// whatever v can do is better than nothing.
	Serve(ctx context.Context, v Version) error
	// SelfCheck lets the sealed program say once, without traffic and beside nobody, whether it can work on
	// this machine. A program that was not told how to says nothing.
	SelfCheck(ctx context.Context, v Version) error
	// Warm makes v run beside the version that serves, parked, ready and healthy.
	Warm(ctx context.Context, v Version) error
	// Switch makes v accept connections, parks every other version and moves the lease to v, each
	// acknowledged. It starts v if it does not run. It is the same step forwards and back.
	Switch(ctx context.Context, v Version) error
	// Watch returns nil once the candidate has passed the rest of its probation, or evidence against it.
	Watch(ctx context.Context, w Watch) error
	// Retire orders the drain and the end of v's process and returns at once.
	Retire(v Version)
	// Running returns every version that has a process: serving, parked or draining.
	Running() []Version
	// Evidence returns what is known of v's last process.
	Evidence(v Version) Evidence
}

// Watch is one stretch of a probation. A probation may be watched in several.
type Watch struct {
	Candidate   Version
	Baseline    Version       // parked and asked the same questions; the zero Version if there is none
	Remaining   time.Duration // by the monotonic clock
	MinRequests uint64        // answered by the candidate since it began, before it may pass
	// Tick takes what remains. Watch calls it about once a second, in the goroutine that called Watch.
	Tick func(remaining time.Duration)
}

// Evidence is what is left of a process for people to read. The engine keeps it within 8 KiB of output, 32
// probes and 512 bytes for each line.
type Evidence struct {
	Exit   string   `json:"exit,omitempty"`   // exit code or signal, "unknown (adopted)", "still running"
	Output string   `json:"output,omitempty"` // the last of it
	Probes []string `json:"probes,omitempty"` // one line each, oldest first
}

const (
	maxOutput = 8 << 10
	maxProbes = 32
	maxLine   = 512
)

// bounded returns e cut to its limits: the end of the output and of the probes is what matters.
func (e Evidence) bounded() Evidence {
	e.Exit = head(e.Exit, maxLine)
	e.Output = e.Output[max(0, len(e.Output)-maxOutput):]
	probes := e.Probes[max(0, len(e.Probes)-maxProbes):]
	e.Probes = make([]string, len(probes))
	for i, p := range probes {
		e.Probes[i] = head(p, maxLine)
	}
	return e
}

func head(s string, most int) string { return s[:min(len(s), most)] }
