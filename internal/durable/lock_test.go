package durable_test

import (
	"bufio"
	"errors"
	"fmt"
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

// The test binary is also the other process: $DURABLE_TEST says what it does with the lock of $DURABLE_DIR.
func TestMain(m *testing.M) {
	dir := os.Getenv("DURABLE_DIR")
	switch what := os.Getenv("DURABLE_TEST"); what {
	case "hold", "hold dir":
		_, err := take(what, dir)
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
		os.Exit(0)
	case "count", "count dir":
		for range 50 {
			count(what, dir)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// take takes the lock of a folder, or that of a file in it.
func take(what, dir string) (*durable.LockFile, error) {
	if strings.HasSuffix(what, " dir") {
		return durable.LockDir(dir)
	}
	return durable.Lock(filepath.Join(dir, "lock"))
}

// count adds one to a file beside dir in a way that two at once would tear.
func count(what, dir string) {
	l, err := take(what, dir)
	for errors.Is(err, durable.ErrLocked) {
		time.Sleep(time.Millisecond) // a pause between attempts
		l, err = take(what, dir)
	}
	if err != nil {
		panic(err)
	}
	b, _ := os.ReadFile(dir + ".n")
	n, _ := strconv.Atoi(string(b))
	if err := os.WriteFile(dir+".n", []byte(strconv.Itoa(n+1)), 0o600); err != nil {
		panic(err)
	}
	if err := l.Close(); err != nil {
		panic(err)
	}
}

func other(t *testing.T, what, dir string) *exec.Cmd {
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, "-test.run=none")
	cmd.Env = append(os.Environ(), "DURABLE_TEST="+what, "DURABLE_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// holding is another process that has taken a lock.
func holding(t *testing.T, what, dir string) *exec.Cmd {
	cmd := other(t, what, dir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	t.Cleanup(func() { stdin.Close() })
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	return cmd
}

func TestLockEndsWithItsProcess(t *testing.T) {
	for _, what := range []string{"hold", "hold dir"} {
		t.Run(what, func(t *testing.T) { lockEndsWithItsProcess(t, what) })
	}
}

func lockEndsWithItsProcess(t *testing.T, what string) {
	dir := t.TempDir()
	cmd := holding(t, what, dir)
	_, err := take(what, dir)
	if !errors.Is(err, durable.ErrLocked) || what == "hold" && !strings.Contains(err.Error(), fmt.Sprintf("process %d)", cmd.Process.Pid)) {
		t.Errorf("locked twice, or the holder is not named: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	l, err := take(what, dir)
	if err != nil {
		t.Fatalf("the lock outlived its process: %v", err)
	}
	if _, err := take(what, dir); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("locked twice in one process: %v", err)
	}
	must(t, l.Close())
	l, err = take(what, dir)
	if err != nil {
		t.Fatalf("closed, and still locked: %v", err)
	}
	must(t, l.Close())
}

func TestLockAmongProcesses(t *testing.T) {
	for _, what := range []string{"count", "count dir"} {
		t.Run(what, func(t *testing.T) { lockAmongProcesses(t, what) })
	}
}

func lockAmongProcesses(t *testing.T, what string) {
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, os.Mkdir(dir, 0o755))
	var cmds []*exec.Cmd
	for range 6 {
		cmd := other(t, what, dir)
		must(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(dir + ".n")
	if err != nil || string(b) != "300" {
		t.Errorf("counted %s of 300: two held the lock at once (%v)", b, err)
	}
}

// What is locked may be what everybody is shown: nothing of the lock stays in it, though its process is killed.
func TestLockDirLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	l, err := durable.LockDir(dir)
	must(t, err)
	must(t, durable.OS().SyncDir(dir))
	must(t, l.Close())
	cmd := holding(t, "hold dir", dir)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("left in the folder: %v, %v", list, err)
	}
}

func TestLockNeedsItsDirectory(t *testing.T) {
	if _, err := durable.Lock(filepath.Join(t.TempDir(), "no", "lock")); err == nil || errors.Is(err, durable.ErrLocked) {
		t.Errorf("lock in a missing directory: %v", err)
	}
}

// A lock that was closed is free, even while other goroutines start processes: a child shares every
// descriptor of its parent until it becomes its own program.
func TestClosedLockIsFreeWhileProcessesStart(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if err := exec.Command(exe, "-test.run=^$").Run(); err != nil {
				ended <- err
				return
			}
		}
	}()
	lock := filepath.Join(t.TempDir(), "lock")
	for n := range 3000 {
		l, err := durable.Lock(lock)
		if err != nil {
			t.Errorf("time %d: %v", n, err)
			break
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
