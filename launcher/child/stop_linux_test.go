package child

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStopKillsTheStubborn(t *testing.T) {
	p := start(t, open(t, options(t)), program(t, Plain, "stubborn", ""))
	ready(t, p)
	if e := p.Stop(soon(t), 50*time.Millisecond); e.Signal != "killed" || !strings.HasPrefix(e.String(), "signal: killed after") {
		t.Errorf("exit %v", e)
	}
	if e := p.Stop(soon(t), time.Hour); e.Signal != "killed" {
		t.Errorf("second stop: %v", e)
	}
}

// TestTreeIsGone is for a stop and for a program that dies by itself.
func TestTreeIsGone(t *testing.T) {
	for _, mode := range []string{"stay", "die"} {
		t.Run(mode, func(t *testing.T) {
			h := open(t, options(t))
			p := start(t, h, program(t, Plain, "forker", mode))
			ready(t, p)
			pids := strings.Fields(p.Status())
			if mode == "stay" {
				p.Stop(soon(t), 50*time.Millisecond)
			} else {
				if err := unix.Kill(p.PID(), unix.SIGTERM); err != nil {
					t.Fatal(err)
				}
				waitDone(t, p)
				p.Stop(soon(t), time.Hour)
			}
			if len(pids) != 3 {
				t.Fatalf("grandchildren %v", pids)
			}
			for _, namePID := range pids {
				name, pid, _ := strings.Cut(namePID, "=")
				n, err := strconv.Atoi(pid)
				if err != nil {
					t.Fatal(err)
				}
				if !alive(n) {
					continue
				}
				// The one that the package doc excepts: other session, no mark, and its parent died unasked.
				if mode == "die" && name == "session" {
					_ = unix.Kill(n, unix.SIGKILL)
					continue
				}
				t.Errorf("descendant %s lives", name)
			}
			if names := records(t, h); len(names) != 0 {
				t.Errorf("records left: %v", names)
			}
		})
	}
}

// A process is watched on after a wait for it that failed.
func TestFailedWaitIsRepeated(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "stubborn", ""))
	ready(t, p)
	if err := p.handle.file.SetReadDeadline(time.Unix(1, 0)); err != nil { // ends the wait as no ctx does
		t.Fatal(err)
	}
	if e := p.Stop(soon(t), 0); e.At.IsZero() {
		t.Errorf("exit %v", e)
	}
}

func TestFloodOfOutputIsCapped(t *testing.T) {
	o := options(t)
	o.OutputBytes = 256 << 10
	h := open(t, o)
	p := start(t, h, program(t, Plain, "flood", "stay"))
	ready(t, p)
	h.capOutput(p.rec.Output) // so that no look at the size falls into the last words
	p.Stop(soon(t), 10*time.Second)
	checkCapped(t, p)
	if tail := p.Tail(1000); !strings.HasSuffix(tail, "the end\n") || len(tail) != 1000 {
		t.Errorf("tail of %d bytes: %q", len(tail), tail[max(0, len(tail)-50):])
	}
	p = start(t, h, program(t, Plain, "flood", "exit"))
	waitDone(t, p)
	p.Stop(soon(t), 0)
	checkCapped(t, p)
}

func checkCapped(t *testing.T, p *Process) {
	t.Helper()
	var total int64
	for _, path := range []string{p.rec.Output, p.rec.Output + previousMark} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	if limit := p.host.o.OutputBytes; total > 2*limit || total < limit/4 {
		t.Errorf("%d bytes of output are kept, cap %d", total, limit)
	}
}
