package child

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// successor closes a Host and opens the next one on the same folders, as a launcher that was started anew.
func successor(t *testing.T, h *Host) (*Host, []*Process) {
	t.Helper()
	h.Close()
	next := open(t, h.o)
	ps, err := next.Adopt(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		t.Cleanup(func() { p.Stop(t.Context(), 0) })
	}
	return next, ps
}

func TestAdoption(t *testing.T) {
	h := open(t, options(t))
	s := program(t, Plain, "echo", "")
	s.Addr = map[string]string{"http": "127.0.0.1:9"}
	p := start(t, h, s)
	ready(t, p)
	addr := p.Status()
	if _, err := ask(addr, "before"); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if _, err := p.Ready(t.Context()); !errors.Is(err, ErrClosed) && err != nil {
		t.Errorf("ready after close: %v", err)
	}
	// The launcher is gone: the output goes on.
	if line, err := ask(addr, "alone"); err != nil || line != "printed\n" {
		t.Fatalf("answer %q, %v", line, err)
	}
	next, ps := successor(t, h)
	if len(ps) != 1 || ps[0].PID() != p.PID() {
		t.Fatalf("adopted %v, want pid %d", ps, p.PID())
	}
	a := ps[0]
	if got := a.Spec(); got.Number != "1.0.0" || got.Digest != "d1" || got.Role != "active" || got.Kind != Plain ||
		got.Addr["http"] != "127.0.0.1:9" {
		t.Errorf("spec %+v", got)
	}
	ready(t, a) // it was, and does not say so again
	if err := a.OwnsPort(addr); err != nil {
		t.Error(err)
	}
	if _, err := ask(addr, "adopted"); err != nil {
		t.Fatal(err)
	}
	if got := a.Tail(100); got != "before\nalone\nadopted\n" {
		t.Errorf("output %q", got)
	}
	if e := a.Stop(soon(t), 10*time.Second); e.String()[:11] != "exit code 0" {
		t.Errorf("exit %v", e) // still a child of this process, so its code is known
	}
	if names := records(t, next); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}

// orphan makes the process of h's child a stranger's: it is started by another process, which then exits.
// The record is what h would have written.
func orphan(t *testing.T, h *Host, role, mode string, env ...string) (record, int) {
	t.Helper()
	s := program(t, Plain, role, mode)
	r := h.describe(s, newToken())
	sh := exec.Command("/bin/sh", "-c", `"$0" >/dev/null 2>&1 & echo $!`, s.Path)
	sh.Env = append(append(s.Env, envMark+"="+r.path), env...)
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, c := range strings.TrimSpace(string(out)) {
		pid = pid*10 + int(c-'0')
	}
	// The shell's child may not have become the program yet. Its start time stays the same.
	st, err := readStat(pid)
	if err != nil {
		t.Fatal(err)
	}
	r.PID, r.Start = pid, st.start
	return r, pid
}

func write(t *testing.T, r record) {
	t.Helper()
	if err := createRecord(durable.OS(), r); err != nil {
		t.Fatal(err)
	}
}

func alive(pid int) bool {
	st, err := readStat(pid)
	return err == nil && !st.dead()
}

func TestAdoptionOfSomebodyElsesChild(t *testing.T) {
	h := open(t, options(t))
	r, pid := orphan(t, h, "silent", "")
	write(t, r)
	ps, err := h.Adopt(soon(t))
	if err != nil || len(ps) != 1 || ps[0].PID() != pid {
		t.Fatalf("adopted %v, %v", ps, err)
	}
	if ps[0].handle.child {
		t.Skip("orphans of this machine become children of the test: its exit code is known")
	}
	select {
	case <-ps[0].Done():
		t.Fatal("done while it lives")
	default:
	}
	e := ps[0].Stop(soon(t), 100*time.Millisecond)
	if e.String() != "unknown (adopted)" || alive(pid) {
		t.Errorf("exit %v, alive %v", e, alive(pid))
	}
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}

func TestAdoptionOfAnSDKProgram(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, SDK, "sdk", "stay"))
	ready(t, p)
	if err := p.Grant(soon(t), 5); err != nil || p.Fence() != 5 {
		t.Fatal(err, p.Fence())
	}
	_, ps := successor(t, h)
	if len(ps) != 1 || ps[0].PID() != p.PID() {
		t.Fatalf("adopted %v, want pid %d", ps, p.PID())
	}
	if err := ps[0].Accept(soon(t)); err != nil { // waits for it to connect
		t.Error(err)
	}
	if ps[0].Fence() != 5 {
		t.Errorf("lease %d of the adopted one", ps[0].Fence())
	}
	if health := ready(t, ps[0]); health != "127.0.0.1:4568" {
		t.Errorf("health address %q", health)
	}
	if err := ps[0].Yield(soon(t)); err != nil || ps[0].Fence() != 0 {
		t.Error(err)
	}
	if err := p.Park(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("order through the closed host: %v", err)
	}
}

// threadOf waits for a process to have a second thread, and returns its number, which comes from those of processes.
func threadOf(t *testing.T, pid int) int {
	t.Helper()
	for end := soon(t); end.Err() == nil; time.Sleep(time.Millisecond) {
		threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			t.Fatal(err)
		}
		for _, th := range threads {
			if n, err := strconv.Atoi(th.Name()); err == nil && n != pid {
				return n
			}
		}
	}
	t.Fatal("it has one thread")
	return 0
}

func TestAStalePidIsNeverTouched(t *testing.T) {
	h := open(t, options(t))
	bystander := exec.Command("/proc/self/exe")
	bystander.Env = []string{roleEnv + "=silent"}
	out, err := bystander.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _, _ = io.ReadAll(out); _ = bystander.Wait() }()
	st, err := readStat(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	other := h.describe(program(t, Plain, "silent", ""), newToken())
	other.PID, other.Start = st.pid, st.start-1
	write(t, other)
	older := h.describe(program(t, Plain, "silent", ""), newToken())
	older.PID, older.Start, older.Boot = st.pid, st.start, "another boot"
	write(t, older)
	dead := h.describe(program(t, Plain, "silent", ""), newToken())
	dead.PID, dead.Start = 1<<22-1, 1
	write(t, dead)
	thread := h.describe(program(t, Plain, "silent", ""), newToken())
	thread.PID, thread.Start = threadOf(t, st.pid), st.start
	write(t, thread)
	ps, err := h.Adopt(soon(t))
	if err != nil || len(ps) != 0 {
		t.Errorf("adopted %v, %v", ps, err)
	}
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
	if !alive(st.pid) {
		t.Error("the bystander is dead")
	}
}

func TestWhatAnEarlierLauncherLeftIsEnded(t *testing.T) {
	h := open(t, options(t))
	noPID, early := orphan(t, h, "silent", "")
	noPID.PID, noPID.Start = 0, 0
	write(t, noPID)
	_, unrecorded := orphan(t, h, "silent", "")
	torn, half := orphan(t, h, "silent", "")
	if err := os.WriteFile(torn.path, []byte(`{"boot":"`), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(filepath.Dir(h.o.Dir), "other", newID())
	_, foreign := orphan(t, h, "silent", "", envMark+"="+elsewhere)
	defer func() { // shells pass on the last of two equal names
		if p, err := os.FindProcess(foreign); err == nil {
			_ = p.Kill()
		}
	}()
	waitMarked(t, h, early, unrecorded, half)
	ps, err := h.Adopt(soon(t))
	if err != nil || len(ps) != 0 {
		t.Errorf("adopted %v, %v", ps, err)
	}
	for _, pid := range []int{early, unrecorded, half} {
		if alive(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
	if !alive(foreign) {
		t.Error("the process of another installation was ended")
	}
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}

// waitMarked waits until the shells' children have become the programs: before exec they have the
// environment of the test, which bears no mark.
func waitMarked(t *testing.T, h *Host, pids ...int) {
	for _, pid := range pids {
		for filepath.Dir(readMark(pid)) != h.o.Dir {
			if soon(t).Err() != nil || !alive(pid) {
				t.Fatalf("process %d bears no mark", pid)
			}
		}
	}
}
