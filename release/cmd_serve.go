package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/release/repo"
)

func (a *app) serveCommand() *cobra.Command {
	var addr, throttle string
	cmd := &cobra.Command{
		Use:   "serve PATH",
		Short: "Serve a published folder on the loopback interface, for tests and demonstrations",
		Long: "Serve a published folder over HTTP on the loopback interface until it is interrupted, and print the URL\n" +
			"first. It understands ranges and ETags, like any web server that can host a repository.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			rate, err := parseRate(throttle)
			if err != nil {
				return nil, err
			}
			return nil, a.serve(ctx, args[0], addr, rate)
		}),
	}
	cmd.Flags().StringVar(&addr, "addr", "127.0.0.1:0", "loopback address and port; port 0 takes a free one")
	cmd.Flags().StringVar(&throttle, "throttle", "", "bytes per second of each answer, for instance 500k or 2M")
	return cmd
}

// serving is what serve prints before it serves.
type serving struct {
	URL  string `json:"url"`
	Path string `json:"path"`
}

func (s serving) text(w io.Writer) { line(w, "serve", "%s at %s (stop with Ctrl-C)", s.Path, s.URL) }

func (a *app) serve(ctx context.Context, path, addr string, bytesPerSecond int64) error {
	if err := loopback(addr); err != nil {
		return err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return usage("%w: give the folder that 'release publish' wrote", err)
	}
	defer root.Close()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: take another port with --addr, 0 for any", err)
	}
	s := serving{URL: "http://" + ln.Addr().String(), Path: absolute(path)}
	a.announce(s)
	server := &http.Server{Handler: repo.Handler(root, bytesPerSecond), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return serveUntil(ctx, server, ln)
}

// announce prints at once: whoever started the server waits for its URL. It is the one --json object of serve.
func (a *app) announce(s serving) {
	if a.json {
		a.print(envelope{Schema: schema, Command: a.command, Exit: status{codeOK, "serving"}, Result: s})
		a.printed = true
		return
	}
	s.text(a.stdout)
}

// serveUntil serves until the context ends, which is a normal end.
func serveUntil(ctx context.Context, server *http.Server, ln net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	err := server.Close() // a throttled download could last for hours
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", served)
	}
	return err
}

// loopback refuses what others could reach: this server is for tests, a repository belongs on a web server.
func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return usage("--addr %q: write it as 127.0.0.1:PORT", addr)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return usage("--addr %s is not a loopback address: this server is for tests, put the folder on a web server for others", addr)
}

// parseRate reads bytes per second with an optional k or M (1024 and 1024 x 1024).
func parseRate(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	factor := int64(1)
	digits := text
	for suffix, by := range map[string]int64{"k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20} {
		if cut, ok := strings.CutSuffix(text, suffix); ok {
			digits, factor = cut, by
		}
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil || n < 1 {
		return 0, usage("--throttle %q: write bytes per second, for instance 500k or 2M", text)
	}
	return n * factor, nil
}
