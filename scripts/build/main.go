// Command build makes the programs that users get, static, stripped and without paths of this machine, for
// every platform: `go run ./scripts/build`.
//
//	-dir DIR           where to put them (dist)
//	-version V         the version that the programs carry (dev)
//	-platforms LIST    os/arch, comma-separated
//
// It prints each size and fails if a launcher is larger than it may be: it runs for years on machines that
// belong to somebody else.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// launcherMax is the largest that a stripped launcher may be, in bytes.
const launcherMax = 15 << 20

var programs = []string{"launcher", "release", "payload/example"}

func main() {
	dir := flag.String("dir", "dist", "folder for the programs")
	version := flag.String("version", "dev", "version that the programs carry")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,windows/amd64,windows/arm64", "what to build for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for platform := range strings.SplitSeq(*platforms, ",") {
		if err := build(ctx, platform, *dir, *version); err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			os.Exit(1)
		}
	}
}

// build makes every program for one platform.
func build(ctx context.Context, platform, dir, version string) error {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return fmt.Errorf("%q is not os/arch", platform)
	}
	for _, program := range programs {
		file := filepath.Join(dir, fmt.Sprintf("%s_%s_%s_%s", filepath.Base(program), version, goos, goarch))
		if goos == "windows" {
			file += ".exe"
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version, "-o", file, "./"+program)
		cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s for %s: %w", program, platform, err)
		}
		if err := measure(file, program); err != nil {
			return err
		}
	}
	return nil
}

func measure(file, program string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	fmt.Printf("%-44s %6.2f MiB\n", filepath.Base(file), float64(info.Size())/(1<<20))
	if program == "launcher" && info.Size() > launcherMax {
		return fmt.Errorf("%s has %d bytes; a launcher may have %d", file, info.Size(), launcherMax)
	}
	return nil
}
