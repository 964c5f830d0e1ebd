//go:build windows

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/payload"
)

// asVersion is the first argument of a payload, which says its number and what it sees of its client.
const asVersion = "as-version"

func beVersion() error {
	ln, err := payload.Listen("http", "")
	if err == nil {
		err = payload.Ready()
	}
	if err != nil {
		return err
	}
	return payload.Serve(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", payload.Version(), r.RemoteAddr)
	})}, ln)
}

// crossing is one public socket and two versions that have inherited it.
type crossing struct {
	host     *child.Host
	socket   *relay.Socket
	one, two *child.Process
}

// crossed runs try on a socket on which two processes accept.
func crossed(try func(context.Context, *crossing) (string, error)) func(context.Context, *bench) (string, error) {
	return func(ctx context.Context, _ *bench) (saw string, err error) {
		dir, err := os.MkdirTemp("", name)
		if err != nil {
			return "", err
		}
		defer os.RemoveAll(dir)
		x := &crossing{}
		if x.host, err = child.New(child.Options{
			Disk: durable.OS(), Dir: filepath.Join(dir, "run"), Wire: child.WireAddress(dir), Output: filepath.Join(dir, "log"), Log: slog.New(slog.DiscardHandler),
		}); err != nil {
			return "", err
		}
		defer x.host.Close()
		if x.socket, err = relay.Listen("http", "127.0.0.1:0"); err != nil {
			return "", err
		}
		defer x.socket.Close()
		for number, p := range map[string]**child.Process{"1.0.0": &x.one, "2.0.0": &x.two} {
			if *p, err = x.start(ctx, dir, number); err != nil {
				return "", err
			}
			defer func() { (*p).Stop(context.Background(), 0) }()
		}
		return try(ctx, x)
	}
}

func (x *crossing) start(ctx context.Context, dir, number string) (*child.Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := x.host.Start(ctx, child.Spec{
		Number: number, Digest: number, Kind: child.SDK, Path: exe, Args: []string{asVersion}, Dir: dir, ReadyTimeout: 10 * time.Second,
		Listeners: []child.Listener{{Name: x.socket.Name(), Conn: x.socket.RawConn()}},
	})
	if err == nil {
		_, err = p.Ready(ctx)
	}
	if err == nil {
		err = p.Accept(ctx)
	}
	return p, err
}

// answers counts who answers new connections.
func (x *crossing) answers(n int) (map[string]int, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	who := map[string]int{}
	for range n {
		resp, err := client.Get("http://" + x.socket.Addr().String())
		if err != nil {
			return who, fmt.Errorf("after %v: %w", who, err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it was read
		if err != nil {
			return who, err
		}
		number, from, _ := strings.Cut(string(text), " ")
		if !strings.HasPrefix(from, "127.0.0.1:") {
			return who, fmt.Errorf("%s sees its client as %q", number, from)
		}
		who[number]++
	}
	return who, nil
}

// only wants every new connection at one version.
func (x *crossing) only(number string) (string, error) {
	who, err := x.answers(100)
	if err == nil && who[number] != 100 {
		err = fmt.Errorf("%v answered, not %s alone", who, number)
	}
	return fmt.Sprint(who), err
}

// bothAccept: two processes wait on one listener, and both get connections.
func bothAccept(_ context.Context, x *crossing) (string, error) {
	who, err := x.answers(300)
	if err == nil && len(who) != 2 {
		err = fmt.Errorf("only %v answered", who)
	}
	return fmt.Sprint(who), err
}

// cancelled: CancelIoEx in one leaves the other's accept alone, and the way back too.
func cancelled(ctx context.Context, x *crossing) (string, error) {
	for range 10 {
		for _, turn := range []struct {
			parked *child.Process
			number string
		}{{x.one, "2.0.0"}, {x.two, "1.0.0"}} {
			if err := turn.parked.Park(ctx); err != nil {
				return "", err
			}
			if _, err := x.only(turn.number); err != nil {
				return "", err
			}
			if err := turn.parked.Accept(ctx); err != nil {
				return "", err
			}
		}
	}
	return "20 parks", nil
}

// killed: a process ends with its accepts pending, and nobody is refused.
func killed(_ context.Context, x *crossing) (string, error) {
	x.one.Kill()
	<-x.one.Done()
	return x.only("2.0.0")
}

// hung: a process that stands still keeps taking connections until it is ended; what it had not begun to read
// is its clients' loss, and nothing after it.
func hung(ctx context.Context, x *crossing) (string, error) {
	p, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(x.one.PID()))
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(p)
	if status, _, _ := windows.NewLazySystemDLL("ntdll.dll").NewProc("NtSuspendProcess").Call(uintptr(p)); status != 0 {
		return "", fmt.Errorf("suspend it: status %#x", status)
	}
	if err := x.one.Park(ctx); err == nil {
		return "", errors.New("a process that stands still has parked")
	}
	x.one.Kill()
	<-x.one.Done()
	return x.only("2.0.0")
}

// provider names what is between programs and TCP: a layered provider may break handles that were inherited.
func provider(ctx context.Context, b *bench) (string, error) {
	out, err := system(ctx, "netsh.exe", "winsock", "show", "catalog")
	if err != nil {
		return "", err
	}
	layered := strings.Count(out, "Layered Chain Entry")
	if _, err := crossed(bothAccept)(ctx, b); err != nil {
		return "", fmt.Errorf("with %d layered providers: %w; use proxy mode on this machine", layered, err)
	}
	return fmt.Sprintf("%d layered providers", layered), nil
}
