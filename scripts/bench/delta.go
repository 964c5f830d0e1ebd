package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/updater/delta"
)

// Targets.
const (
	plainMost  = 1.4  // percent of the file
	goMost     = 0.5  // percent of the file
	applyMost  = 2.0  // seconds
	memoryMost = 16.0 // MB
)

// The program that is patched: two patch releases of a web server of 50 MB, with everything that it is made of.
const (
	patchedModule = "github.com/caddyserver/caddy/v2"
	patchedOld    = "v2.10.1"
	patchedNew    = "v2.10.2"
	patchedMain   = `package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
`
)

// delta measures patches between two adjacent releases of a real program, of both kinds, for both systems.
func (b *bench) delta(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "tsdelta")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	systems := []string{"linux", "windows"}
	if b.quick {
		systems = systems[:1]
	}
	for _, goos := range systems {
		if err := b.deltaOn(ctx, dir, goos); err != nil {
			return fmt.Errorf("%s: %w", goos, err)
		}
	}
	return nil
}

func (b *bench) deltaOn(ctx context.Context, dir, goos string) error {
	var files [2]string
	for i, version := range []string{patchedOld, patchedNew} {
		var err error
		if files[i], err = buildPatched(ctx, dir, goos, version); err != nil {
			return err
		}
	}
	old, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	fresh, err := os.ReadFile(files[1])
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		name string
		make func(context.Context, []byte, []byte) ([]byte, error)
		most float64
	}{{delta.Plain, delta.MakePlain, plainMost}, {delta.Go, delta.Make, goMost}} {
		begun := time.Now()
		patch, err := kind.make(ctx, old, fresh)
		if err != nil {
			return err
		}
		if delta.Kind(patch) != kind.name {
			return fmt.Errorf("a patch of kind %s came out, not %s", delta.Kind(patch), kind.name)
		}
		b.atMost(kind.most, goos+", "+kind.name+": patch", 100*float64(len(patch))/float64(len(fresh)), "% of the file",
			fmt.Sprintf("%d of %d bytes, made in %.0f s", len(patch), len(fresh), time.Since(begun).Seconds()))
		file := filepath.Join(dir, "patch")
		if err := os.WriteFile(file, patch, 0o600); err != nil {
			return err
		}
		if err := b.applies(ctx, goos+", "+kind.name, applying{files[0], file, filepath.Join(dir, "made"), int64(len(fresh))}, fresh); err != nil {
			return err
		}
	}
	return nil
}

// buildPatched compiles a release of the program, as it would be published.
func buildPatched(ctx context.Context, dir, goos, version string) (string, error) {
	src, out := filepath.Join(dir, version), filepath.Join(dir, goos+version)
	if err := os.MkdirAll(src, 0o755); err != nil {
		return "", err
	}
	mod := fmt.Sprintf("module example.com/patched\n\ngo 1.25\n\nrequire %s %s\n", patchedModule, version)
	for name, text := range map[string]string{"go.mod": mod, "main.go": patchedMain} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-trimpath", "-ldflags", "-s -w", "-o", out, "."}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s of %s: %w\n%s", args[0], version, err, text)
		}
	}
	return out, nil
}

// applying is one application of a patch, in a process of its own.
type applying struct {
	Old, Patch, New string
	NewBytes        int64
}

// applied is what it took.
type applied struct {
	Seconds float64
	Before  int64 // bytes, the most that the process had
	After   int64
}

const applyEnv = "TURNSTONE_BENCH_APPLY"

// applies measures how long it takes to check the old file, apply the patch, and have the result on the disk, and
// what the process needs for it.
func (b *bench) applies(ctx context.Context, what string, a applying, want []byte) error {
	var seconds, cpu, grown, whole []float64
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	for range b.runs(9, 3) {
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env, cmd.Stderr = append(os.Environ(), applyEnv+"="+string(text)), os.Stderr
		out, err := cmd.Output()
		var got applied
		if err := errors.Join(err, json.Unmarshal(out, &got)); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		seconds = append(seconds, got.Seconds)
		cpu = append(cpu, (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
		grown, whole = append(grown, float64(got.After-got.Before)/1e6), append(whole, float64(got.After)/1e6)
		if made, err := os.ReadFile(a.New); err != nil || !bytes.Equal(made, want) {
			return fmt.Errorf("the patch makes %d other bytes: %w", len(made), err)
		}
	}
	b.atMost(applyMost, what+": applied in", median(seconds), "s", fmt.Sprintf("median of %d, hashing both files and the sync included; quickest %.2f s, slowest %.2f s; CPU time %.2f s; load average %s",
		len(seconds), quantile(seconds, 0), quantile(seconds, 1), median(cpu), loadAverage()))
	b.atMost(memoryMost, what+": memory for it", quantile(grown, 1), "MB", fmt.Sprintf("the most; the whole process had %.1f MB", quantile(whole, 1)))
	return nil
}

// applyHere is the process that applies does it in.
func applyHere(text string) error {
	var a applying
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return err
	}
	result := applied{Before: peakMemory()}
	begun := time.Now()
	if err := a.apply(); err != nil {
		return err
	}
	result.Seconds, result.After = time.Since(begun).Seconds(), peakMemory()
	return json.NewEncoder(os.Stdout).Encode(result)
}

func (a applying) apply() error {
	old, oldBytes, err := openSized(a.Old)
	if err != nil {
		return err
	}
	patch, patchBytes, err := openSized(a.Patch)
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, old); err != nil {
		return err
	}
	out, err := os.Create(a.New)
	if err != nil {
		return err
	}
	sum.Reset()
	f := delta.Files{Old: old, OldBytes: oldBytes, Patch: patch, PatchBytes: patchBytes, NewBytes: a.NewBytes}
	if err := delta.Apply(context.Background(), f, io.MultiWriter(out, sum)); err != nil {
		return err
	}
	return errors.Join(out.Sync(), out.Close())
}

func openSized(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// peakMemory is the most that this process had resident, in bytes; 0 if the system does not say.
func peakMemory() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "VmHWM:"); ok {
			kB, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64) // 0 is seen in the table
			return kB << 10
		}
	}
	return 0
}
