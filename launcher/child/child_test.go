package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
)

func TestExitForPeople(t *testing.T) {
	at := time.Unix(1, 0)
	for want, e := range map[string]Exit{
		"still running":           {},
		"exit code 2 after 1.3s":  {Code: 2, At: at, Ran: 1300 * time.Millisecond},
		"signal: killed after 4s": {Code: -1, Signal: "killed", At: at, Ran: 4 * time.Second},
		"unknown (adopted)":       {Adopted: true, At: at, Ran: time.Hour},
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestRecordLines(t *testing.T) {
	first := record{Boot: "b", Token: token("secret").hash(), Number: "1.0.0", Addr: map[string]string{"http": "x"}}
	path := filepath.Join(t.TempDir(), newID())
	first.path = path
	d := durable.OS()
	if err := createRecord(d, first); err != nil {
		t.Fatal(err)
	}
	if err := createRecord(d, first); !os.IsExist(err) {
		t.Errorf("a record was overwritten: %v", err)
	}
	for _, line := range []record{{PID: 5, Start: 6}, {Ready: true}} {
		if err := extendRecord(d, path, line); err != nil {
			t.Fatal(err)
		}
	}
	want := first
	want.PID, want.Start, want.Ready = 5, 6, true
	got, err := readRecord(d, path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v\nwant %+v", got, err, want)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("secret")) || !got.matches("secret") || got.matches("secreT") || (record{}).matches("") {
		t.Error("the token is not kept as its hash")
	}
}

// FuzzRecord adds a torn line: what the whole lines say stays as it is.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("{\"boot\":\"b\",\"token\":\"t\"}\n"), []byte("{\"pid\":7}"))
	f.Add([]byte("{}\n{\"pid\":1}\n"), []byte("\x00"))
	f.Add([]byte("x\n"), []byte("{"))
	f.Fuzz(func(t *testing.T, whole, torn []byte) {
		whole = append(whole, '\n')
		torn = bytes.ReplaceAll(torn, []byte("\n"), nil)
		want, got := parseRecord(whole), parseRecord(append(whole, torn...))
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
	})
}

func TestActivatedEnvironment(t *testing.T) {
	got, err := activated([]string{"A=1", wire.EnvListen + "=http=3,admin=4", "LISTEN_PID=9"}, 77)
	want := []string{"A=1", "LISTEN_PID=77", "LISTEN_FDS=2", "LISTEN_FDNAMES=http:admin"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "http=4", "http=3,admin=5", "http"} {
		if _, err := activated([]string{wire.EnvListen + "=" + bad}, 1); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestHealthAddressStaysHere(t *testing.T) {
	for _, good := range []string{"", "127.0.0.1:80", "[::1]:80", "127.9.9.9:1"} {
		if err := checkHealth(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"10.0.0.1:80", "localhost:80", "127.0.0.1", "127.0.0.1:0", "[::]:80", "x"} {
		if checkHealth(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestExtendIsBounded(t *testing.T) {
	h := &Host{}
	p := h.process(Spec{ReadyTimeout: time.Minute}, record{})
	p.notified("EXTEND_TIMEOUT_USEC=18446744073709551615\nSTATUS=" + strings.Repeat("x", 2*maxText) + "\nREADY=0")
	if !p.deadline.Equal(p.began.Add(extendLimit)) {
		t.Errorf("deadline %v after the start", p.deadline.Sub(p.began))
	}
	p.notified("EXTEND_TIMEOUT_USEC=1\nEXTEND_TIMEOUT_USEC=-5\nFDSTORE=1")
	if !p.deadline.Equal(p.began.Add(extendLimit)) {
		t.Error("the deadline was shortened")
	}
	if len(p.status) > maxText+3 || p.isReady {
		t.Errorf("status of %d bytes, ready %v", len(p.status), p.isReady)
	}
}

// Who says nothing is given up at ready_timeout from the start and not a moment later, or when its own extension is over.
func TestReadyIsBounded(t *testing.T) {
	for text, want := range map[string]time.Duration{"": time.Minute, "EXTEND_TIMEOUT_USEC=300000000": 5 * time.Minute, "EXTEND_TIMEOUT_USEC=9000000000": extendLimit} {
		synctest.Test(t, func(t *testing.T) {
			h := &Host{ctx: t.Context()}
			p := h.process(Spec{ReadyTimeout: time.Minute}, record{})
			p.notified(text)
			if _, err := p.Ready(t.Context()); !errors.Is(err, ErrNotReady) || time.Since(p.began) != want {
				t.Errorf("%q: given up after %s: %v", text, time.Since(p.began), err)
			}
		})
	}
}

// A candidate that is ready stays so, however long the step that asks has been waiting.
func TestReadyStaysReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Host{ctx: t.Context()}
		p := h.process(Spec{ReadyTimeout: time.Minute}, record{})
		p.becomeReady("127.0.0.1:1")
		time.Sleep(time.Hour)
		for range 100 { // select takes any of two that can go on
			if health, err := p.Ready(t.Context()); err != nil || health != "127.0.0.1:1" {
				t.Fatalf("%q, %v", health, err)
			}
		}
	})
}

func TestOutputIsCappedByCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := &Host{o: Options{OutputBytes: 900}}
	for i := range 100 {
		fmt.Fprintf(f, "line %3d\n", i) // 9 bytes
	}
	if n := h.capOutput(path); n != 900 {
		t.Errorf("size %d", n)
	}
	if _, err := os.Stat(path + previousMark); err == nil {
		t.Error("copied at the cap, want above it")
	}
	fmt.Fprint(f, "over\n")
	h.capOutput(path)
	fmt.Fprint(f, "after\n") // the writer's own descriptor
	want := "line  99\nover\nafter\n"
	if got := tailOutput(path, len(want)); got != want {
		t.Errorf("tail %q", got)
	}
	if got := tailOutput(path, 1<<30); len(got) != 450+len("after\n") {
		t.Errorf("%d bytes kept", len(got))
	}
	if got := tailOutput(path, 0) + tailOutput(path, -1); got != "" {
		t.Errorf("tail %q", got)
	}
}

func TestOldOutputIsPruned(t *testing.T) {
	dir := t.TempDir()
	h := &Host{o: Options{Output: dir}}
	for i := range keepOutputs + 3 {
		path := filepath.Join(dir, fmt.Sprintf("%02d.log", i))
		for _, name := range []string{path, path + previousMark} {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Unix(int64(1000-i), 0) // the last ones are the oldest
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if i == keepOutputs+2 {
			h.byPID = map[int]*Process{1: {rec: record{Output: path}}} // it lives
		}
	}
	h.pruneOutput()
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 2*(keepOutputs+1) {
		t.Errorf("%d files left", len(left))
	}
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%02d.log", keepOutputs+2))); err != nil {
		t.Error("the output of a living process is removed")
	}
}

// A file that is no program for this machine is told from what may pass.
func TestForeign(t *testing.T) {
	h := open(t, options(t))
	s := Spec{Number: "1.0.0", Digest: "foreign", Kind: Plain, Path: filepath.Join(t.TempDir(), "program.exe"), Dir: t.TempDir()}
	if err := os.WriteFile(s.Path, []byte("MZ is how programs of Windows begin, and ELF those of Linux"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Start(t.Context(), s); !Foreign(err) {
		t.Errorf("no program: %v", err)
	}
	s.Path = filepath.Join(t.TempDir(), "missing.exe")
	if _, err := h.Start(t.Context(), s); err == nil || Foreign(err) {
		t.Errorf("no file: %v", err)
	}
}
