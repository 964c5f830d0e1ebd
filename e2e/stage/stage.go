package stage

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// Product is the name of everything that is published here.
const Product = "acme-agent"

// Options of a stage. The zero value is a fast handoff stage on a free port.
type Options struct {
	Listen   string            // public address; "" is 127.0.0.1 and a free port
	Config   map[string]string // TOML tables by name, in place of the stage's own: "probation": `time = "5s"`
	Command  string            // TOML of payload.command; "" is the example itself
	Channels []string          // of the product, beside stable, which the launcher follows
	Throttle string            // of the repository's server, as for release serve; "" is none
	State    string            // folder of the launcher's state; "" is one in Home
	Machine  *Machine          // where the launcher runs when it is a Windows program
	Service  bool              // it runs as a service of the machine, not in the console
}

// Stage is one product, its repository and its launcher.
type Stage struct {
	Programs
	Home   string   // everything lives below; short, since sockets do
	URL    string   // of the repository
	Listen string   // host:port of the service
	Config string   // path of launcher.toml
	Env    []string // of the launcher, beside what we have ourselves

	state    string
	machine  *Machine
	service  bool
	bridge   *bridge
	server   *exec.Cmd
	launcher *exec.Cmd
	exited   chan error
	died     atomic.Pointer[time.Time]
	log      *os.File
}

// New makes a product with keys and an empty repository, and serves the repository over HTTP.
func New(ctx context.Context, p Programs, o Options) (*Stage, error) {
	home, err := os.MkdirTemp("", "ts")
	if err != nil {
		return nil, err
	}
	s := &Stage{Programs: p, Home: home, Listen: o.Listen, Config: filepath.Join(home, "launcher.toml"), machine: o.Machine, service: o.Service}
	if s.state = o.State; s.state == "" {
		s.state = filepath.Join(home, "state")
	}
	if s.Listen == "" {
		if s.Listen, err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	init := []string{"init", Product, "--channel", "stable"}
	for _, name := range o.Channels {
		init = append(init, "--channel", name)
	}
	if _, err := s.Tool(ctx, init...); err != nil {
		return s, err
	}
	if s.log, err = os.Create(filepath.Join(home, "launcher.log")); err != nil {
		return s, err
	}
	if err := s.serve(ctx, o.Throttle); err != nil {
		return s, err
	}
	if s.machine != nil {
		if s.bridge, err = newBridge(s.machine, p.bridge, home); err != nil {
			return s, err
		}
	}
	return s, s.writeConfig(o)
}

// FreeAddress is one of 127.0.0.1 where nobody listens. It lies below the ports that systems give to the connections
// of clients: one of those could have taken it before it is used.
func FreeAddress() (string, error) {
	var err error
	for range 100 {
		var ln net.Listener
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))); err == nil {
			return ln.Addr().String(), ln.Close()
		}
	}
	return "", err
}

// Tool runs the release tool on the product and returns what it printed.
func (s *Stage) Tool(ctx context.Context, args ...string) (string, error) {
	return run(ctx, s.Release, append([]string{"--dir", s.product()}, args...)...)
}

func (s *Stage) product() string { return filepath.Join(s.Home, "product") }

// Repo is the published folder, and State the launcher's.
func (s *Stage) Repo() string  { return filepath.Join(s.Home, "www") }
func (s *Stage) State() string { return s.state }

// Publish adds a version made of one file for this platform, to be downloaded as it is, and publishes it on the stable channel.
func (s *Stage) Publish(ctx context.Context, version, file string) error {
	platform := s.os() + "/" + runtime.GOARCH
	return s.Change(ctx, "add", version, "--platform", platform+"="+file, "--channel", "stable", "--patches", "0", "--pack=false")
}

// Change runs the release tool on the product, and publishes what that made.
func (s *Stage) Change(ctx context.Context, args ...string) error {
	if _, err := s.Tool(ctx, args...); err != nil {
		return err
	}
	_, err := s.Tool(ctx, "publish", "--to", "dir:"+s.Repo())
	return err
}

// serve runs `release serve` on the published folder.
func (s *Stage) serve(ctx context.Context, throttle string) error {
	if err := os.MkdirAll(s.Repo(), 0o755); err != nil {
		return err
	}
	cmd := exec.Command(s.Release, "serve", s.Repo(), "--addr", "127.0.0.1:0", "--throttle", throttle)
	cmd.Stderr = s.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.server = cmd
	line, err := firstURL(out)
	if err != nil {
		return fmt.Errorf("release serve: %w", err)
	}
	s.URL = line
	return nil
}

// firstURL reads lines until one holds an http URL.
func firstURL(r io.Reader) (string, error) {
	for sc := bufio.NewScanner(r); sc.Scan(); {
		for _, word := range strings.Fields(sc.Text()) {
			if strings.HasPrefix(word, "http://") {
				return strings.TrimRight(word, "/"), nil
			}
		}
	}
	return "", errors.New("printed no URL")
}

// tables is the configuration of a stage: short times, everything else as in production.
func (s *Stage) tables(o Options) map[string]string {
	command := o.Command
	if command == "" {
		command = `["{{.Exe}}"]`
	}
	t := map[string]string{
		"repository": fmt.Sprintf("url = %q\nchannel = \"stable\"\nroot = %q\npoll = \"1m\"\n", s.URL, s.seen(filepath.Join(s.product(), "repo", "metadata", "1.root.json"))),
		"state":      fmt.Sprintf("dir = %q\n", s.seen(s.State())),
		"payload":    fmt.Sprintf("kind = \"sdk\"\ncommand = %s\nuser = \"same\"\n", command),
		"health":     "interval = \"200ms\"\ngood = 3\nready_timeout = \"30s\"\n",
		"probation":  "time = \"2s\"\nmin_requests = 20\n",
		"drain":      "deadline = \"10s\"\nidle = \"5s\"\nstream = \"20s\"\nkill = \"2s\"\n",
	}
	if o.Machine != nil {
		t["health"] += "timeout = \"10s\"\n"
	}
	for name, text := range o.Config {
		t[name] = text
	}
	return t
}

func (s *Stage) writeConfig(o Options) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "product = %q\n", Product)
	for name, text := range s.tables(o) {
		fmt.Fprintf(&b, "\n[%s]\n%s", name, text)
	}
	fmt.Fprintf(&b, "\n[[listen]]\nname = \"http\"\naddress = %q\n", s.Listen)
	return os.WriteFile(s.Config, b.Bytes(), 0o600)
}

// Launch starts the launcher and waits until it answers its operators.
func (s *Stage) Launch(ctx context.Context) error {
	if s.service {
		return s.startService(ctx)
	}
	cmd := s.Command(context.WithoutCancel(ctx), "run")
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = append(os.Environ(), s.Env...)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		now := time.Now()
		s.died.Store(&now)
		exited <- err
	}()
	s.launcher, s.exited = cmd, exited
	return s.until(ctx, func() (bool, error) {
		select {
		case err := <-exited:
			exited <- err // for Quit
			return false, fmt.Errorf("the launcher ended at once: %v\n%s", err, s.Log())
		default:
		}
		return s.answers(ctx), nil
	})
}

// answers asks for a short time: whom Wine connects to the first instance of a pipe, before the launcher has taken
// that out of the way, is never heard.
func (s *Stage) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := s.Client().Status(ctx)
	return err == nil
}

// Log is what the launcher and the server wrote.
func (s *Stage) Log() string {
	b, err := os.ReadFile(filepath.Join(s.Home, "launcher.log"))
	if err == nil && s.service {
		var own []byte
		own, err = os.ReadFile(filepath.Join(s.State(), "log", "launcher.log"))
		b = append(b, own...)
	}
	if err != nil {
		return string(b) + err.Error()
	}
	return string(b)
}

// Client speaks to the running launcher.
func (s *Stage) Client() *control.Client {
	if s.bridge != nil {
		return control.NewClient(s.bridge.socket)
	}
	return control.NewClient(control.Address(s.State(), Product))
}

// patience bounds the wait for what must happen.
const patience = 90 * time.Second

// until asks again and again, for as long as patience, until cond is true or fails.
func (s *Stage) until(ctx context.Context, cond func() (bool, error)) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		ok, err := cond()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return fmt.Errorf("waited %s in vain", patience)
}

// PID is the launcher's process, as long as it is no service.
func (s *Stage) PID() int { return s.launcher.Process.Pid }

// Kill ends the launcher without a warning.
func (s *Stage) Kill() error {
	if err := s.launcher.Process.Kill(); err != nil {
		return err
	}
	<-s.exited
	return nil
}

// Dead says whether the launcher has ended by itself.
func (s *Stage) Dead() bool {
	select {
	case err := <-s.exited:
		s.exited <- err
		return true
	default:
		return false
	}
}

// Died is when the last launcher that ended did.
func (s *Stage) Died() time.Time { return *s.died.Load() }

// Quit stops the launcher in order and returns its error, if it had one.
func (s *Stage) Quit() error {
	if s.service {
		return s.endService()
	}
	if s.launcher == nil {
		return nil
	}
	select {
	case err := <-s.exited: // by itself, before
		s.launcher = nil
		return err
	default:
	}
	if s.machine != nil { // it ends with its machine
		return s.Kill()
	}
	if err := s.launcher.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		s.launcher = nil
		return err
	case <-time.After(60 * time.Second):
		return errors.New("the launcher did not stop within a minute")
	}
}

// Operator runs a command of the operator's and returns what it printed and its exit code.
func (s *Stage) Operator(ctx context.Context, args ...string) (string, int) {
	out, err := output(s.Command(ctx, args...))
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return out, ee.ExitCode()
	}
	if err != nil {
		return err.Error(), -1
	}
	return out, 0
}

// Close stops everything and removes the folder.
func (s *Stage) Close() error {
	err := s.Quit()
	if s.server != nil {
		_ = s.server.Process.Kill() // it may have ended by itself
		_ = s.server.Wait()
	}
	if s.bridge != nil {
		err = errors.Join(err, s.bridge.close())
	}
	if s.log != nil {
		_ = s.log.Close() // only the tests read it
	}
	return errors.Join(err, os.RemoveAll(s.Home))
}

// Command is the launcher with its configuration, in its machine.
func (s *Stage) Command(ctx context.Context, args ...string) *exec.Cmd {
	args = append(args, "--config", s.seen(s.Config))
	if s.machine != nil {
		return s.machine.Command(ctx, s.Launcher, args...)
	}
	return exec.CommandContext(ctx, s.Launcher, args...)
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, name, args...))
}

// output runs cmd and returns what it printed.
func output(cmd *exec.Cmd) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String() + errOut.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, errOut.String(), out.String())
	}
	return out.String(), nil
}
