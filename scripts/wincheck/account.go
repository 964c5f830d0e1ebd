//go:build windows

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// asPayload is the first argument of a process that tries what a payload must not be able to do.
const asPayload = "as-payload"

// accounts are those that a payload can have. Only the service can start processes under them.
var accounts = map[string]string{
	"account-local": "LocalService", "account-virtual": `NT SERVICE\` + name, "account-restricted": "restricted", "account-named": named.Account,
}

// tryAccounts runs a process under each account, beside a wire as payloads have it, and leaves what became of it
// in the state folder.
func tryAccounts(ctx context.Context, state string) error {
	h, err := child.New(child.Options{
		Disk: durable.OS(), Dir: filepath.Join(state, "run"), Wire: child.WireAddress(state), Output: filepath.Join(state, "log"), Log: slog.Default(),
	})
	if err != nil {
		return err
	}
	defer h.Close()
	tries := map[string]func() (string, error){"ctrl-c": func() (string, error) { return tryCtrlC(ctx, h, state) }}
	for check, account := range accounts {
		tries[check] = func() (string, error) { return tryAccount(ctx, account, state) }
	}
	var errs []error
	for check, try := range tries {
		text, err := try()
		if text = "pass " + text; err != nil {
			text = "FAIL " + err.Error()
		}
		errs = append(errs, os.WriteFile(filepath.Join(state, check), []byte(text), 0o600))
	}
	return errors.Join(errs...)
}

// asSilent is the first argument of a program that knows nothing of us.
const asSilent = "as-silent"

func beSilent([]string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Println("waits")
	<-ctx.Done()
	return nil
}

// tryCtrlC stops such a program: its exit code says whether it heard of it.
func tryCtrlC(ctx context.Context, h *child.Host, state string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	p, err := h.Start(ctx, child.Spec{Number: "1.0.0", Digest: "silent", Kind: child.Plain, Path: exe, Args: []string{asSilent}, Dir: state})
	if err != nil {
		return "", err
	}
	for range 50 {
		if strings.Contains(p.Tail(100), "waits") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if exit := p.Stop(ctx, 5*time.Second); exit.Code != 0 || exit.At.IsZero() {
		return "", fmt.Errorf("it ended by %s", exit)
	}
	return "", nil
}

func tryAccount(ctx context.Context, account, state string) (string, error) {
	u, err := child.Account(account, name)
	if err != nil {
		return "", err
	}
	data, err := os.MkdirTemp(state, "data")
	if err != nil {
		return "", err
	}
	if err := u.Give(data); err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, asPayload, data, state, strconv.Itoa(os.Getpid()), child.WireAddress(state))
	cmd.SysProcAttr = u.Attr()
	cmd.SysProcAttr.CreationFlags = windows.CREATE_NO_WINDOW
	cmd.Dir = data
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("a process under %s: %w: %s", account, err, bytes.TrimSpace(out))
	}
	return string(bytes.TrimSpace(out)), err
}

// asUser is the first argument of a process without the rights of an administrator.
const asUser = "as-user"

// privilege runs install with a token in which Administrators counts against it only.
func privilege(ctx context.Context, b *bench) (string, error) {
	u, err := child.Account("restricted", name)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, b.spec.Exe, asUser, b.spec.Exe, b.spec.State)
	cmd.SysProcAttr = u.Attr()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = errors.New(string(bytes.TrimSpace(out)))
	}
	return string(bytes.TrimSpace(out)), err
}

// beUser wants to be refused; what it could do all the same is taken back.
func beUser(args []string) error {
	if len(args) != 2 {
		return errors.New("for the checks only")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	other := name + "-user"
	_, err := host.Install(ctx, host.Spec{Name: other, Exe: args[0], State: args[1] + "-user", Start: host.Disabled, Unprotected: true})
	if errors.Is(err, host.ErrPrivilege) {
		fmt.Println(err)
		return nil
	}
	if err == nil {
		_, err = host.Uninstall(ctx, other, args[1]+"-user")
		return errors.Join(errors.New("a service was created"), err, os.RemoveAll(args[1]+"-user"))
	}
	return fmt.Errorf("refused for another reason: %w", err)
}

// bePayload does what a payload may and tries what it may not; it says who it is.
func bePayload(args []string) error {
	if len(args) != 4 {
		return errors.New("for the checks only")
	}
	data, state, wire := args[0], args[1], args[3]
	pid, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	who, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	fmt.Println(who.User.Sid)
	if err := os.WriteFile(filepath.Join(data, "mine"), nil, 0o600); err != nil {
		return fmt.Errorf("its data folder is not its own: %w", err)
	}
	if os.WriteFile(filepath.Join(state, "planted"), nil, 0o600) == nil {
		return errors.New("it can write to the state folder")
	}
	if err := errors.Join(pose(wire), squat(wire+"-squatted")); err != nil {
		return err
	}
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, uint32(pid))
	if err == nil {
		_ = windows.CloseHandle(h) // it should not have been opened
		return errors.New("it can end the launcher")
	}
	return nil
}

// pose tries to be taken for the launcher by payloads, and expects to be refused; to speak to it is allowed.
func pose(wire string) error {
	pipe, err := windows.UTF16PtrFromString(wire)
	if err != nil {
		return err
	}
	h, err := windows.CreateNamedPipe(pipe, windows.PIPE_ACCESS_DUPLEX, windows.PIPE_TYPE_BYTE, windows.PIPE_UNLIMITED_INSTANCES, 4096, 4096, 0, nil)
	if err == nil {
		_ = windows.CloseHandle(h) // it should not have been made
		return errors.New("it can put itself in the launcher's place on the wire")
	}
	h, err = windows.CreateFile(pipe, windows.FILE_READ_DATA|windows.FILE_WRITE_DATA|windows.SYNCHRONIZE, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil && !errors.Is(err, windows.ERROR_PIPE_BUSY) {
		return fmt.Errorf("it cannot speak on the wire: %w", err)
	}
	_ = windows.CloseHandle(h) // nothing was said
	return nil
}

// squat tries to be the first with a name like the launcher's, as before it starts, and expects to be refused.
func squat(wire string) error {
	name, err := windows.UTF16PtrFromString(wire)
	if err != nil {
		return err
	}
	h, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX, windows.PIPE_TYPE_BYTE, windows.PIPE_UNLIMITED_INSTANCES, 4096, 4096, 0, nil)
	if err == nil {
		_ = windows.CloseHandle(h) // it should not have been made
		return errors.New("it can make the name of the wire before the launcher does")
	}
	return nil
}

// tried is a check that waits for what the service finds out.
func tried(check string) func(context.Context, *bench) (string, error) {
	return func(_ context.Context, b *bench) (string, error) {
		var text []byte
		for range 600 {
			text, _ = os.ReadFile(filepath.Join(b.spec.State, check)) // it may not be there yet
			if saw, passed := bytes.CutPrefix(text, []byte("pass ")); passed {
				return string(saw), nil
			}
			if why, failed := bytes.CutPrefix(text, []byte("FAIL ")); failed {
				return "", errors.New(string(why))
			}
			time.Sleep(100 * time.Millisecond)
		}
		return "", errors.New("the service has not tried it within a minute: look into its log")
	}
}
