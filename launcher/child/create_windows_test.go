package child

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/windows"
)

// A launcher that dies in the middle of making a process leaves one that has not run yet. The next one finds it by
// the job in which it was made, and ends it: it holds the public sockets.
func TestLauncherDiesWhileMakingAProcess(t *testing.T) {
	o := options(t)
	h := open(t, o)
	p := h.process(program(t, Plain, "silent"), record{path: filepath.Join(o.Dir, newID()), Boot: h.boot, Number: "1.0.0"})
	if err := createRecord(o.Disk, p.rec); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	job, err := createJob(p.rec.path)
	if err != nil {
		t.Fatal(err)
	}
	in := windows.Handle(null.Fd())
	made, err := create(p, p.environment("", ""), [3]windows.Handle{in, in, in}, []windows.Handle{job}, job)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(made.Process)
	_ = windows.CloseHandle(made.Thread) // as the end of the launcher does
	_ = windows.CloseHandle(job)
	if left, err := h.Adopt(soon(t)); err != nil || len(left) > 0 {
		t.Errorf("adopted %v, %v", left, err)
	}
	if event, err := windows.WaitForSingleObject(made.Process, uint32(patience.Milliseconds())); event != windows.WAIT_OBJECT_0 {
		_ = windows.TerminateProcess(made.Process, 1)
		t.Errorf("it is left: %v", err)
	}
}

// A record whose pid belongs to another program by now, which its creation time tells, leads to nobody.
func TestAStalePidIsNeverTouched(t *testing.T) {
	o := options(t)
	bystander := start(t, open(t, options(t)), program(t, Plain, "silent"))
	h := open(t, o)
	for name, at := range map[string]uint64{"earlier": bystander.handle.start - 1, "later": bystander.handle.start + 1} {
		stale := record{path: filepath.Join(o.Dir, newID()), Boot: h.boot, Number: name, PID: bystander.PID(), Start: at}
		if err := createRecord(o.Disk, stale); err != nil {
			t.Fatal(err)
		}
	}
	if ps, err := h.Adopt(soon(t)); err != nil || len(ps) > 0 {
		t.Errorf("adopted %v, %v", ps, err)
	}
	if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("records left: %v, %v", left, err)
	}
	if err := bystander.alive(); err != nil {
		t.Errorf("the bystander: %v", err)
	}
}
