package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestMain lets the test binary be the program, so that exit codes and signals are the real ones, and a command
// that signs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == deviceMode {
		os.Exit(device(os.Args[2:]))
	}
	if os.Getenv("RELEASE_TEST_MAIN") != "" {
		main()
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), "RELEASE_TEST_MAIN=1")
	cmd.Stderr = os.Stderr
	return cmd
}

// The real program serves a published folder, verify reads it over HTTP, and an interrupt ends it with 0.
func TestServe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	if err := os.WriteFile(filepath.Join(b.public, ".hidden"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	server := program(t, "serve", b.public, "--json", "--throttle", "2M")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var e struct{ Result serving }
	if err := json.Unmarshal(first, &e); err != nil {
		t.Fatal(err)
	}
	if got := b.verify(e.Result.URL); got.versions("stable") != "1.0.0" || got.Artifacts != 1 {
		t.Errorf("over HTTP: %+v", got)
	}
	response, err := http.Get(e.Result.URL + "/.hidden")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a hidden file is shown: %s", response.Status)
	}
	if err := server.Process.Signal(os.Interrupt); runtime.GOOS == "windows" {
		t.Logf("its end is not tested: Go sends no interrupt to a process on Windows: %v", err)
		_ = server.Process.Kill() // what was tested is over
		_ = server.Wait()
		return
	} else if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || len(rest) != 0 {
		t.Errorf("a second object: %q, %v", rest, err)
	}
	if err := server.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
	contains(t, b.must(codeDownload, "verify", e.Result.URL).err, "refused")
}

func TestServePortTaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.publish()
	taken := http.Server{}
	ln := listen(t)
	go func() { _ = taken.Serve(ln) }()
	defer taken.Close()
	contains(t, b.must(codeFailed, "serve", b.public, "--addr", ln.Addr().String()).err, "release serve: listen tcp", "take another port")
}

// The real program's exit code is the documented one.
func TestRealExitCode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "product")
	if err := program(t, "init", "agent", "--dir", dir).Run(); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "init", "agent", "--dir", dir, "--json")
	out, _ := cmd.Output()
	if code := cmd.ProcessState.ExitCode(); code != codeNothing {
		t.Errorf("exit %d, want %d: %s", code, codeNothing, out)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}
