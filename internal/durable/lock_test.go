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
	lock := filepath.Join(os.Getenv("DURABLE_DIR"), "lock")
	switch os.Getenv("DURABLE_TEST") {
	case "hold":
		_, err := durable.Lock(lock)
		fmt.Println(err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
		os.Exit(0)
	case "count":
		for range 50 {
			count(lock)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// count adds one to a file in a way that two at once would tear.
func count(lock string) {
	l, err := durable.Lock(lock)
	for errors.Is(err, durable.ErrLocked) {
		time.Sleep(time.Millisecond) // a pause between attempts
		l, err = durable.Lock(lock)
	}
	if err != nil {
		panic(err)
	}
	b, _ := os.ReadFile(lock + ".n")
	n, _ := strconv.Atoi(string(b))
	if err := os.WriteFile(lock+".n", []byte(strconv.Itoa(n+1)), 0o600); err != nil {
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

func TestLockEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := other(t, "hold", dir)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Fatalf("the other process: %q, %v", line, err)
	}
	_, err = durable.Lock(filepath.Join(dir, "lock"))
	if !errors.Is(err, durable.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d)", cmd.Process.Pid)) {
		t.Errorf("locked twice, or the holder is not named: %v", err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	l, err := durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatalf("the lock outlived its process: %v", err)
	}
	if _, err := durable.Lock(filepath.Join(dir, "lock")); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("locked twice in one process: %v", err)
	}
	must(t, l.Close())
	l, err = durable.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatalf("closed, and still locked: %v", err)
	}
	must(t, l.Close())
}

func TestLockAmongProcesses(t *testing.T) {
	dir := t.TempDir()
	var cmds []*exec.Cmd
	for range 6 {
		cmd := other(t, "count", dir)
		must(t, cmd.Start())
		cmds = append(cmds, cmd)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "lock.n"))
	if err != nil || string(b) != "300" {
		t.Errorf("counted %s of 300: two held the lock at once (%v)", b, err)
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
