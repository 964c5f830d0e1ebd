//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// recipe names what setup makes; a folder made by another recipe is made anew.
const recipe = "trixie wine64, 2"

// suite has the Wine that is tested: Wine 8 of Debian 12 cannot remove folders as Go does.
const suite = "trixie"

// packages are Wine and the libraries that it needs to run programs without windows. libfreetype6 is left
// out on purpose: with it, and without the rest of a desktop, wineboot starts explorer.exe without end;
// without it Wine only warns.
var packages = []string{"libwine", "wine64", "libc6", "libgcc-s1", "libunwind8", "liblzma5", "libz-mingw-w64"}

// setup makes dir hold Wine. It is done once; who comes second waits and finds it.
func setup(ctx context.Context, dir string) error {
	if made(dir) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if made(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	begun := time.Now()
	if err := build(ctx, dir, func(step string) {
		fmt.Fprintf(os.Stderr, "wine: %5.1f s  %s\n", time.Since(begun).Seconds(), step)
	}); err != nil {
		return fmt.Errorf("set up Wine in %s: %w", dir, err)
	}
	return nil
}

func made(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "recipe"))
	return err == nil && string(b) == recipe
}

func lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

func build(ctx context.Context, dir string, say func(string)) error {
	if err := os.RemoveAll(dir); err != nil { // nothing is mounted there as seen from here
		return err
	}
	root, debs := filepath.Join(dir, "root"), filepath.Join(dir, "deb")
	for _, d := range []string{root, debs, filepath.Join(dir, "over")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	say("download from the Debian mirror of this machine")
	if err := download(ctx, filepath.Join(dir, "apt"), debs); err != nil {
		return err
	}
	say("unpack")
	if err := unpack(ctx, debs, root); err != nil {
		return err
	}
	say("strip")
	if err := strip(ctx, dlls(root)); err != nil {
		return err
	}
	say("make a Windows")
	if err := windows(ctx, dir, root); err != nil {
		return err
	}
	for _, d := range []string{debs, filepath.Join(dir, "apt")} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	say("done")
	return os.WriteFile(filepath.Join(dir, "recipe"), []byte(recipe), 0o644)
}

// download gets the packages by a private apt state: the machine's own lists, sources and packages stay as
// they are, its proxies and mirror are used.
func download(ctx context.Context, state, debs string) error {
	mirror, err := mirror(ctx)
	if err != nil {
		return err
	}
	for _, d := range []string{"lists/partial", "cache/archives/partial", "empty"} {
		if err := os.MkdirAll(filepath.Join(state, d), 0o755); err != nil {
			return err
		}
	}
	sources := filepath.Join(state, "sources.list")
	line := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"
	if err := errors.Join(os.WriteFile(sources, []byte(line), 0o644), os.WriteFile(filepath.Join(state, "status"), nil, 0o644)); err != nil {
		return err
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-qq",
			"-o", "Dir::Etc::sourcelist=" + sources, "-o", "Dir::Etc::sourceparts=" + state + "/empty",
			"-o", "Dir::Etc::preferences=/dev/null", "-o", "Dir::Etc::preferencesparts=" + state + "/empty",
			"-o", "Dir::State=" + state, "-o", "Dir::State::Lists=" + state + "/lists", "-o", "Dir::State::status=" + state + "/status",
			"-o", "Dir::Cache=" + state + "/cache", "-o", "APT::Architecture=amd64", "-o", "Acquire::Languages=none",
			"-o", "APT::Sandbox::User=" + user(),
		}, args...)...)
		cmd.Dir = debs
		_, err := tool(cmd)
		return err
	}
	if err := apt("update"); err != nil {
		return err
	}
	return apt(append([]string{"download"}, packages...)...)
}

func user() string {
	if os.Geteuid() == 0 {
		return "root" // the folders are ours, not _apt's
	}
	return ""
}

// mirror is where this machine gets Debian's main archive from.
func mirror(ctx context.Context) (string, error) {
	out, err := tool(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(SITE)"))
	if err != nil {
		return "", err
	}
	other := ""
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "Debian" && f[1] == "main" && !strings.Contains(f[2], "security") {
			return f[2], nil
		}
		if len(f) >= 2 && f[len(f)-2] == "main" && !strings.Contains(f[len(f)-1], "security") {
			other = f[len(f)-1] // the origin is known only after an update
		}
	}
	if other != "" {
		return other, nil
	}
	return "", errors.New("apt knows no Debian mirror: add one to its sources and run apt-get update")
}

func unpack(ctx context.Context, debs, root string) error {
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := tool(exec.CommandContext(ctx, "dpkg-deb", "-x", f, root)); err != nil {
			return err
		}
	}
	for _, lib := range []string{"lib", "lib64"} {
		if err := os.Symlink("usr/"+lib, filepath.Join(root, lib)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := copyFile(filepath.Join(root, "usr/x86_64-w64-mingw32/lib/zlib1.dll"), filepath.Join(dlls(root), "zlib1.dll")); err != nil {
		return err
	}
	for _, d := range []string{"share/doc", "share/man", "share/locale", "i686-w64-mingw32", "x86_64-w64-mingw32", "x86_64-w64-mingw32ucrt"} {
		if err := os.RemoveAll(filepath.Join(root, "usr", d)); err != nil {
			return err
		}
	}
	for _, f := range []string{"etc/passwd", "etc/hosts"} {
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			return err
		}
		if err := copyFile("/"+f, filepath.Join(root, f)); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(root, "proc"), 0o755)
}

func dlls(root string) string {
	return filepath.Join(root, "usr/lib/x86_64-linux-gnu/wine/x86_64-windows")
}

// strip takes the debug information out of the DLLs, which is two thirds of them. Without binutils it stays.
func strip(ctx context.Context, dir string) error {
	if _, err := exec.LookPath("strip"); err != nil {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	const batch = 40
	slots := make(chan struct{}, runtime.NumCPU())
	for len(files) > 0 {
		n := min(batch, len(files))
		cmd := exec.CommandContext(ctx, "strip", append([]string{"-S"}, files[:n]...)...)
		files = files[n:]
		slots <- struct{}{}
		go func() {
			_ = cmd.Run() // some files are none that it knows
			<-slots
		}()
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	return ctx.Err()
}

// windows makes the prefix: registry and C:. zlib1.dll is no part of Wine, but Debian's user32.dll needs it.
func windows(ctx context.Context, dir, root string) error {
	system := filepath.Join(root, prefix, "drive_c/windows/system32")
	if err := os.MkdirAll(system, 0o755); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(dlls(root), "zlib1.dll"), filepath.Join(system, "zlib1.dll")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if out, err := machine(ctx, dir, true, "wineboot", "--init").CombinedOutput(); err != nil {
		return fmt.Errorf("wineboot: %w: %s", err, out)
	}
	out, err := machine(ctx, dir, false, "cmd", "/c", "ver").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Microsoft Windows") {
		return fmt.Errorf("it does not run: %v: %s", err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
