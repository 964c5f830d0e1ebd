package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be the command of an exec probe.
func TestMain(m *testing.M) {
	switch os.Getenv("PROBE_TEST_AS") {
	case "well":
		fmt.Println("fine")
		os.Exit(0)
	case "unwell":
		fmt.Print(strings.Repeat("x", 1<<20), "no\x1b[31mdatabase\n")
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour) // an empty select would be called a deadlock where the runtime keeps no other thread
	case "parent":
		beParent()
	case "child":
		beChild()
	case "environment":
		few := len(os.Environ()) == 1 || runtime.GOOS == "windows" // which adds some of its own
		if !few || os.Getenv("SECRET") != "" {
			fmt.Println(os.Environ())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// beParent starts a process and hangs as it does.
func beParent() {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PROBE_TEST_AS=child")
	if err := child.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

// beChild keeps a connection to the test for as long as it lives.
func beChild() {
	if _, err := net.Dial("tcp", os.Getenv("PROBE_TEST_MEET")); err != nil {
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func TestOnceHTTP(t *testing.T) {
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
		case "/sick":
			w.WriteHeader(503)
			io.WriteString(w, "database\x1b[2J is\r\ngone "+strings.Repeat("y", 1000))
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/endless": // an answer whose body never ends is an answer
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	for _, c := range []struct {
		path   string
		status Range
		ok     bool
		text   string
	}{
		{"", Range{}, true, "status 200"},
		{"/", Range{204, 204}, false, "status 200"},
		{"/moved", Range{}, false, "status 302"},
		{"/moved", Range{200, 399}, true, "status 302"},
		{"/endless", Range{}, true, "status 200"},
		{"/sick", Range{}, false, "status 503: database [2J is gone yyy"},
	} {
		r := Check{Kind: HTTP, Address: at, Path: c.path, Status: c.status}.Once(t.Context())
		if r.OK != c.ok || !strings.HasPrefix(r.Text, c.text) || len(r.Text) > maxText || r.At.IsZero() || r.Took <= 0 {
			t.Errorf("%s %v: %+v", c.path, c.status, r)
		}
	}
}

func TestOnceTimesOut(t *testing.T) {
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	for _, c := range []Check{
		{Kind: HTTP, Address: hung.Addr().String()},
		{Kind: Exec, Command: []string{os.Args[0]}, Env: []string{"PROBE_TEST_AS=hang"}},
	} {
		c.Timeout = 50 * time.Millisecond
		r := c.Once(t.Context())
		if r.OK || r.Text != "no answer within 50ms" || r.Took > time.Minute {
			t.Errorf("%s: %+v", c.Kind, r)
		}
	}
}

func TestOnceTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Check{Kind: TCP, Address: ln.Addr().String()}
	if r := c.Once(t.Context()); !r.OK {
		t.Errorf("listening: %+v", r)
	}
	ln.Close()
	if r := c.Once(t.Context()); r.OK || !strings.Contains(r.Text, "refused") {
		t.Errorf("closed: %+v", r)
	}
}

func TestOnceExec(t *testing.T) {
	t.Setenv("SECRET", "passphrase")
	as := func(who string) Result {
		return Check{Kind: Exec, Command: []string{os.Args[0]}, Env: []string{"PROBE_TEST_AS=" + who}, Timeout: time.Minute}.Once(t.Context())
	}
	if r := as("well"); !r.OK || r.Text != "exit code 0" {
		t.Errorf("well: %+v", r)
	}
	if r := as("unwell"); r.OK || !strings.HasPrefix(r.Text, "exit status 3: xxx") || len(r.Text) > maxText || strings.Contains(r.Text, "\x1b") {
		t.Errorf("unwell: %+v", r)
	}
	if r := as("environment"); !r.OK {
		t.Errorf("the launcher's environment leaks: %+v", r)
	}
	if r := (Check{Kind: Exec, Command: []string{"/nonexistent/probe"}}).Once(t.Context()); r.OK {
		t.Errorf("nothing to run: %+v", r)
	}
	if r := (Check{Kind: Exec}).Once(t.Context()); r.OK {
		t.Errorf("no command: %+v", r)
	}
}

// What a command started ends with it.
func TestOnceExecLeavesNothing(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	env := []string{"PROBE_TEST_AS=parent", "PROBE_TEST_MEET=" + ln.Addr().String()}
	over := make(chan Result, 1)
	go func() {
		over <- Check{Kind: Exec, Command: []string{os.Args[0]}, Env: env, Timeout: time.Hour}.Once(ctx)
	}()
	c, err := ln.Accept() // the child lives
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	<-over
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the child of a command that was killed goes on")
	}
}

func TestOnceOtherKinds(t *testing.T) {
	if r := (Check{Kind: None}).Once(t.Context()); !r.OK {
		t.Errorf("none: %+v", r)
	}
	if r := (Check{Kind: "gopher"}).Once(t.Context()); r.OK {
		t.Errorf("unknown: %+v", r)
	}
}

func TestPrintableIsShortAndSafe(t *testing.T) {
	for in, want := range map[string]string{
		"plain":           "plain",
		"a\nb\tc":         "a b c",
		"\x1b]0;t\x07x":   "]0;t x",
		"bad\xffutf8":     "bad?utf8",
		"c1\u009b31mhole": "c1 31mhole",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := printable(strings.Repeat("é", 500)); len(got) > maxText || !strings.HasSuffix(got, "é...") {
		t.Errorf("long: %q", got)
	}
}

// A version that becomes ready is found so by a question that falls within an eighth of its start.
func TestReadySeesARealServerComeUp(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	ln.Close()
	asked := make(chan struct{})
	srv := &http.Server{}
	up := make(chan struct{})
	go func() {
		defer close(up)
		<-asked // at least one refusal came first
		ln, err := net.Listen("tcp", at)
		if err != nil {
			t.Error(err)
			return
		}
		go srv.Serve(ln)
	}()
	t.Cleanup(func() { srv.Close(); <-up })
	srv.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := Check{Kind: HTTP, Address: at}
	if r := c.Once(ctx); r.OK {
		t.Fatal("up too early")
	}
	close(asked)
	told, err := Ready(ctx, c, 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(told); n < 3 || !told[n-1].OK || !told[n-2].OK || !told[n-3].OK {
		t.Errorf("transcript: %+v", told)
	}
}

func TestReadyEndsWithTheProcess(t *testing.T) {
	died := make(chan struct{})
	hung := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(died) // it dies while it is asked
		<-r.Context().Done()
	})
	_, err := Ready(t.Context(), Check{Kind: HTTP, Address: hung, Timeout: time.Hour}, 1, died)
	if !errors.Is(err, ErrExited) {
		t.Errorf("err %v", err)
	}
	// A good answer after the end came from somebody else.
	if _, err := Ready(t.Context(), Check{Kind: None}, 1, died); !errors.Is(err, ErrExited) {
		t.Errorf("a dead process is ready: %v", err)
	}
}
