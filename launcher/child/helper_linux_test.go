package child

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// roleEnv turns the test binary into one of the programs below.
const roleEnv = "TS_TEST_ROLE"

var roles = map[string]func(){
	"sdk":      sdkProgram,
	"borrowed": borrowedProgram,
	"echo":     echoProgram,
	"notify":   notifyProgram,
	"silent":   func() { waitForTerm() },
	"exit":     exitProgram,
	"stubborn": stubbornProgram,
	"forker":   forkerProgram,
	"leaf":     leafProgram,
	"flood":    floodProgram,
	"listen":   listenProgram,
	"print":    printProgram,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "exec-child" {
		fmt.Fprintln(os.Stderr, ExecActivated(os.Args[2:]))
		os.Exit(1)
	}
	if role := os.Getenv(roleEnv); role != "" {
		signal.Notify(term, syscall.SIGTERM)
		time.AfterFunc(2*time.Minute, func() { os.Exit(98) }) // a failed test leaves nothing for ever
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// term receives SIGTERM from before the program does anything.
var term = make(chan os.Signal, 1)

func waitForTerm() { <-term }

func notify(text string) {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	check(err)
	_, err = io.WriteString(c, text)
	check(err)
	check(c.Close())
}

func check(err error) {
	if err != nil {
		fmt.Println("helper:", err)
		os.Exit(99)
	}
}

var fence uint64 // of the lease

// payloadWire is a small SDK.
type payloadWire struct {
	c     *net.UnixConn
	r     *bufio.Reader
	mode  string
	token string
}

func readToken() string {
	fd, err := strconv.Atoi(os.Getenv(wire.EnvToken))
	check(err)
	b, err := io.ReadAll(os.NewFile(uintptr(fd), "token"))
	check(err)
	return string(b)
}

func dialWire(token string) *payloadWire {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv(wire.EnvWire), Net: "unix"})
	check(err)
	w := &payloadWire{c: c, r: bufio.NewReader(c), mode: os.Getenv("TS_TEST_MODE"), token: token}
	w.say(wire.Message{Kind: wire.Hello, Token: token, PID: os.Getpid(), Protocol: wire.Protocol, Fence: fence})
	return w
}

func (w *payloadWire) say(m wire.Message) {
	b, err := json.Marshal(m)
	check(err)
	_, _ = w.c.Write(append(b, '\n')) // a refused connection shows at the next read
}

// hear returns the next message; at the end of the connection the program ends with code 7.
func (w *payloadWire) hear() wire.Message {
	line, err := w.r.ReadBytes('\n')
	if err != nil && w.mode == "stay" {
		w.redial()
		return w.hear()
	}
	if err != nil {
		os.Exit(7)
	}
	var m wire.Message
	check(json.Unmarshal(line, &m))
	return m
}

// redial waits for the next launcher, as a payload does, and says again that it is ready. It is in no hurry:
// longer than an order waits for its answer.
func (w *payloadWire) redial() {
	time.Sleep(wire.AckTimeout + 200*time.Millisecond)
	for {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv(wire.EnvWire), Net: "unix"})
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		_ = c.Close()
		*w = *dialWire(w.token) // says that it holds the lease
		w.say(wire.Message{Kind: wire.Ready, Health: "127.0.0.1:4568"})
		return
	}
}

// waitRefused reads until the launcher closes the connection.
func (w *payloadWire) waitRefused() {
	for {
		w.hear()
	}
}

func sdkProgram() {
	token, mode := readToken(), os.Getenv("TS_TEST_MODE")
	switch mode {
	case "wrongtoken":
		w := dialWire(strings.Repeat("0", len(token)))
		w.say(wire.Message{Kind: wire.Ready})
		w.waitRefused()
	case "lend":
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), roleEnv+"=borrowed")
		c.Stdin = strings.NewReader(token)
		if c.Run() != nil {
			os.Exit(7)
		}
		os.Exit(0)
	case "early":
		w := &payloadWire{c: dialRaw(), mode: mode}
		w.r = bufio.NewReader(w.c)
		w.say(wire.Message{Kind: wire.Ready})
		w.waitRefused()
	}
	w := dialWire(token)
	if m := w.hear(); m.Kind != wire.Welcome {
		check(fmt.Errorf("got %q for a welcome", m.Kind))
	}
	w.misbehave()
	w.say(wire.Message{Kind: wire.Want})
	w.say(wire.Message{Kind: wire.Count, Stats: &wire.Stats{Requests: 42}})
	w.say(wire.Message{Kind: wire.Hold, Busy: &wire.Busy{Reason: "backup", For: 3600e9}})
	w.say(wire.Message{Kind: wire.Ready, Health: "127.0.0.1:4567"})
	go waitAndExit()
	w.obey(token)
}

func dialRaw() *net.UnixConn {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: os.Getenv(wire.EnvWire), Net: "unix"})
	check(err)
	return c
}

func (w *payloadWire) misbehave() {
	switch w.mode {
	case "garbage":
		_, _ = w.c.Write([]byte("hello, launcher\n"))
	case "longline":
		_, _ = w.c.Write(bytes.Repeat([]byte("x"), 2*wire.MaxLine))
	case "toomany":
		line := []byte(`{"kind":"count"}` + "\n")
		_, _ = w.c.Write(bytes.Repeat(line, 2*maxPerSecond))
	case "elsewhere":
		w.say(wire.Message{Kind: wire.Ready, Health: "192.0.2.1:80"})
	case "gifts":
		_, _, err := w.c.WriteMsgUnix([]byte("{\"kind\":\"count\"}\n"), syscall.UnixRights(0, 0), nil)
		check(err)
	default:
		return
	}
	w.waitRefused()
}

// obey answers orders. With mode "drop" the first one is not answered but met by a new connection.
func (w *payloadWire) obey(token string) {
	for dropped := false; ; {
		m := w.hear()
		switch {
		case w.mode == "noack":
			continue
		case w.mode == "drop" && !dropped:
			dropped = true
			check(w.c.Close())
			*w = *dialWire(token)
			continue
		case w.mode == "refuse":
			w.say(wire.Message{Kind: wire.Ack, ID: m.ID, Error: "not now"})
			continue
		case m.Kind == wire.Welcome || m.ID == 0:
			continue
		case m.Kind == wire.Sockets:
			w.giveSockets(m.ID)
			continue
		}
		fence = max(fence, m.Fence)
		w.say(wire.Message{Kind: wire.Ack, ID: m.ID})
		if m.Kind == wire.Drain {
			w.say(wire.Message{Kind: wire.Count, Stats: &wire.Stats{Requests: 43, Cut: uint64(m.Grace.Deadline)}})
			os.Exit(0)
		}
	}
}

func (w *payloadWire) giveSockets(id uint64) {
	_, fd, _ := strings.Cut(os.Getenv(wire.EnvListen), "=")
	n, err := strconv.Atoi(fd)
	check(err)
	b, err := json.Marshal(wire.Message{Kind: wire.Ack, ID: id, Names: []string{"http"}})
	check(err)
	_, _, err = w.c.WriteMsgUnix(append(b, '\n'), syscall.UnixRights(n), nil)
	check(err)
}

// borrowedProgram says ready with the token of its parent.
func borrowedProgram() {
	b, err := io.ReadAll(os.Stdin)
	check(err)
	w := dialWire(string(b))
	w.say(wire.Message{Kind: wire.Ready})
	w.waitRefused()
}

// echoProgram prints what it is sent and then says "printed". Its address is its STATUS.
func echoProgram() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	notify("READY=1\nSTATUS=" + ln.Addr().String())
	go waitAndExit()
	for {
		c, err := ln.Accept()
		check(err)
		line, err := bufio.NewReader(c).ReadString('\n')
		check(err)
		fmt.Print(line)
		_, err = io.WriteString(c, "printed\n")
		check(err)
		_ = c.Close()
	}
}

func waitAndExit() {
	waitForTerm()
	os.Exit(0)
}

func notifyProgram() {
	notify("MAINPID=1\nSTATUS=loading\nEXTEND_TIMEOUT_USEC=60000000")
	<-fileAppears(os.Getenv("TS_TEST_GO"))
	barrier()
	notify("READY=1\nSTATUS=serving")
	waitForTerm()
	notify("STOPPING=1")
}

// barrier waits as systemd-notify does: until the receiver has closed the descriptor that was sent along.
func barrier() {
	r, w, err := os.Pipe()
	check(err)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	to := &syscall.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	check(syscall.Sendmsg(fd, []byte("BARRIER=1"), syscall.UnixRights(int(w.Fd())), to, 0))
	check(w.Close())
	_, err = io.ReadAll(r)
	check(err)
}

// fileAppears opens a FIFO: the channel closes when the test opens the other end.
func fileAppears(path string) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		f, err := os.Open(path)
		check(err)
		_ = f.Close()
		close(ch)
	}()
	return ch
}

func exitProgram() {
	fmt.Println("last words")
	code, err := strconv.Atoi(os.Getenv("TS_TEST_MODE"))
	check(err)
	os.Exit(code)
}

func stubbornProgram() {
	signal.Ignore(syscall.SIGTERM)
	notify("READY=1")
	select {}
}

// forkerProgram starts a grandchild in its group, one in a session of its own without our environment, and
// one that outlives its parent. It is ready when all three are.
func forkerProgram() {
	r, w, err := os.Pipe()
	check(err)
	for _, mode := range []string{"group", "session", "orphan"} {
		c := exec.Command("/proc/self/exe")
		c.ExtraFiles = []*os.File{w}
		c.Env = append(os.Environ(), roleEnv+"=leaf", "TS_TEST_MODE="+mode)
		if mode == "session" {
			c.Env = []string{roleEnv + "=leaf", "TS_TEST_MODE=" + mode}
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		}
		check(c.Start())
		if mode == "orphan" {
			check(c.Wait())
		}
	}
	check(w.Close())
	buf := bufio.NewReader(r)
	var pids []string
	for range 3 {
		line, err := buf.ReadString('\n')
		check(err)
		pids = append(pids, strings.TrimSpace(line))
	}
	notify("READY=1\nSTATUS=" + strings.Join(pids, " "))
	waitForTerm()
	if os.Getenv("TS_TEST_MODE") == "die" { // not because it was told to by its host
		os.Exit(1)
	}
}

func leafProgram() {
	signal.Ignore(syscall.SIGTERM)
	out := os.NewFile(3, "pids")
	if os.Getenv("TS_TEST_MODE") == "orphan" {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), "TS_TEST_MODE=daemon")
		c.ExtraFiles = []*os.File{out}
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		check(c.Start())
		return
	}
	_, err := fmt.Fprintf(out, "%s=%d\n", os.Getenv("TS_TEST_MODE"), os.Getpid())
	check(err)
	select {}
}

func floodProgram() {
	line := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
	for range 400 { // 25 MiB
		_, err := os.Stdout.Write(line)
		check(err)
	}
	if os.Getenv("TS_TEST_MODE") == "exit" {
		return
	}
	notify("READY=1")
	waitForTerm()
	fmt.Println("the end")
}

// listenProgram is a program for socket activation: it answers each connection with what it was told.
func listenProgram() {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || os.Getenv("LISTEN_FDS") != "1" {
		check(fmt.Errorf("LISTEN_PID=%s LISTEN_FDS=%s", os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")))
	}
	ln, err := net.FileListener(os.NewFile(3, "listener"))
	check(err)
	go waitAndExit()
	for {
		c, err := ln.Accept()
		check(err)
		fmt.Fprintf(c, "%s %s\n", os.Getenv("LISTEN_FDNAMES"), os.Getenv(wire.EnvListen))
		_ = c.Close()
	}
}

// printProgram shows what a payload can see of its surroundings.
func printProgram() {
	_, err := os.Stat(os.Getenv(envMark))
	record := err == nil || os.IsPermission(err)
	in, _ := io.ReadAll(os.Stdin)
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	groups, _ := os.Getgroups()
	fds, _ := os.ReadDir("/proc/self/fd")
	fmt.Println("record", record, "uid", os.Getuid(), "gid", os.Getgid(), "groups", groups,
		"leader", int(sid) == os.Getpid(), "stdin", len(in), "fds", len(fds))
	for _, nv := range os.Environ() {
		fmt.Println(nv)
	}
}
