//go:build windows

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

type status = windows.SERVICE_STATUS_PROCESS

func open() (windows.Handle, error) {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return 0, err
	}
	defer windows.CloseServiceHandle(m)
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	return windows.OpenService(m, text, windows.SERVICE_ALL_ACCESS)
}

func (b *bench) query() (s status, err error) {
	h, err := open()
	if err != nil {
		return s, err
	}
	defer windows.CloseServiceHandle(h)
	var need uint32
	err = windows.QueryServiceStatusEx(h, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&s)), uint32(unsafe.Sizeof(s)), &need)
	return s, err
}

func (b *bench) control(code uint32) error {
	h, err := open()
	if err != nil {
		return err
	}
	defer windows.CloseServiceHandle(h)
	var s windows.SERVICE_STATUS
	return windows.ControlService(h, code, &s)
}

// until looks at the service until it is as wanted.
func (b *bench) until(most time.Duration, wanted func(status) bool) (status, error) {
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		s, err := b.query()
		if err != nil || wanted(s) {
			return s, err
		}
		if time.Since(begun) > most {
			return s, fmt.Errorf("after %s: state %d, process %d, exit code %d", most, s.CurrentState, s.ProcessId, s.Win32ExitCode)
		}
	}
}

// system runs a program of Windows' own folder.
func system(ctx context.Context, program string, args ...string) (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, program), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return string(out), err
}

// refused makes a folder as install does, spoils it, and wants it to be refused for that alone.
func refused(spoil func(dir string) error) (string, error) {
	top := filepath.Join(os.Getenv("ProgramData"), name+"-folder")
	dir := filepath.Join(top, "state")
	defer os.RemoveAll(top)
	for _, d := range []string{top, dir} {
		if _, err := host.MakeFolder(d); err != nil {
			return "", err
		}
	}
	if err := host.CheckFolder(dir); err != nil {
		return "", fmt.Errorf("a good folder is refused: %w", err)
	}
	if err := spoil(dir); err != nil {
		return "", fmt.Errorf("cannot try it: %w", err)
	}
	err := host.CheckFolder(dir)
	if !errors.Is(err, host.ErrUnsafe) {
		return "", fmt.Errorf("accepted: %w", err)
	}
	return err.Error(), nil
}

// holder opens a file that this process keeps to itself.
func holder(context.Context, *bench) (string, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return "", err
	}
	_ = f.Close() // it is empty
	defer os.Remove(f.Name())
	path, err := windows.UTF16PtrFromString(f.Name())
	if err != nil {
		return "", err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(h)
	_, err = durable.OS().OpenFile(f.Name(), os.O_RDONLY, 0)
	if err == nil || !strings.Contains(err.Error(), "held by ") || !strings.Contains(err.Error(), fmt.Sprintf("(process %d)", os.Getpid())) {
		return "", fmt.Errorf("the error is: %w", err)
	}
	return err.Error(), nil
}

// library puts a DLL beside this program, which main has hardened, and asks for it by its name. Who says that the
// program's folder counts has to find it there, or the check proves nothing.
func library(_ context.Context, b *bench) (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(dir, "version.dll"))
	if err != nil {
		return "", err
	}
	dll := name + ".dll"
	file := filepath.Join(filepath.Dir(b.spec.Exe), dll)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	defer os.Remove(file)
	h, refusal := windows.LoadLibrary(dll)
	if refusal == nil {
		return "", errors.Join(fmt.Errorf("%s was loaded", file), windows.FreeLibrary(h))
	}
	if h, err = windows.LoadLibraryEx(dll, 0, windows.LOAD_LIBRARY_SEARCH_APPLICATION_DIR); err != nil {
		return "", fmt.Errorf("cannot try it: %w", err)
	}
	return refusal.Error(), windows.FreeLibrary(h)
}

func junction(ctx context.Context, _ *bench) (string, error) {
	return refused(func(dir string) error {
		away := dir + "-away"
		if err := os.Rename(dir, away); err != nil {
			return err
		}
		_, err := system(ctx, "cmd.exe", "/c", "mklink", "/j", dir, away)
		return err
	})
}

func hardLink(context.Context, *bench) (string, error) {
	return refused(func(dir string) error {
		file := filepath.Join(dir, "slot0")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			return err
		}
		return os.Link(file, filepath.Join(filepath.Dir(dir), "second"))
	})
}

func openFolder(ctx context.Context, _ *bench) (string, error) {
	return refused(func(dir string) error {
		_, err := system(ctx, "icacls.exe", dir, "/grant", "*S-1-5-32-545:(W)") // Users
		return err
	})
}

// share reads a file by the machine's own administrative share, as a launcher reads from a repository on one.
func share(ctx context.Context, _ *bench) (string, error) {
	dir, err := os.MkdirTemp(os.Getenv("ProgramData"), name)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "timestamp.json"), []byte("{}\n"), 0o600); err != nil {
		return "", err
	}
	drive, rest, _ := strings.Cut(dir, ":")
	path := `\\127.0.0.1\` + drive + `$` + rest
	for _, address := range []string{path, "file:" + filepath.ToSlash(path)} {
		r, err := fetch.Open(address, fetch.Options{})
		if err != nil {
			return "", err
		}
		if _, err := r.Get(ctx, "timestamp.json", 10); err != nil {
			return "", err
		}
	}
	return path, nil
}
