// Package stage sets up everything that Turnstone is about on one machine and in one folder: the built
// programs, a product with its keys, a published repository with its server, and a launcher that runs
// versions of the example from it. The demo, the end-to-end tests and the benchmarks drive it.
//
// All processes are real, all sockets are on loopback, and Close ends what was started here and nothing
// else.
package stage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Programs are the built programs of this module.
type Programs struct {
	Dir      string
	Launcher string
	Release  string
	Wine     string // scripts/wine, when launcher and example are Windows programs, else ""
	bridge   string // e2e/bridge, likewise
}

// Build compiles the launcher and the release tool into dir.
func Build(ctx context.Context, dir string) (Programs, error) {
	p := Programs{Dir: dir, Launcher: exe(dir, "launcher"), Release: exe(dir, "release")}
	for _, program := range []string{"launcher", "release"} {
		if err := compile(ctx, exe(dir, program), "./"+program, "", runtime.GOOS); err != nil {
			return Programs{}, err
		}
	}
	return p, nil
}

// BuildMortal compiles a launcher for a system that dies where it is told to: see launcher/fault_kill.go.
func BuildMortal(out, goos string) error {
	return compile(context.Background(), out, "./launcher", "", goos, "-tags", "trialfault")
}

// Example compiles the example payload with a version and a fault inside and returns its path. Faults are
// described in the example's own doc; "" is none.
func (p Programs) Example(ctx context.Context, version, fault string) (string, error) {
	out := exe(p.Dir, "example-"+version)
	if p.Wine != "" {
		out += ".exe"
	}
	return out, compile(ctx, out, "./payload/example", fmt.Sprintf("-X main.version=%s -X main.fault=%s", version, fault), p.os())
}

func exe(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// os is the system that the launcher and the example are for.
func (p Programs) os() string {
	if p.Wine != "" {
		return "windows"
	}
	return runtime.GOOS
}

func compile(ctx context.Context, out, program, ldflags, goos string, more ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w " + ldflags, "-o", out}, more...)
	cmd := exec.CommandContext(ctx, "go", append(args, program)...)
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", program, err, text)
	}
	return nil
}

// moduleRoot is the folder of go.mod at or above the working folder.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above the working folder: run this inside the repository")
		}
	}
	return "", err
}
