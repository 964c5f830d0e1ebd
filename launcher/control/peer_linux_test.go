package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestMain lets the test binary be a client of another account.
func TestMain(m *testing.M) {
	if addr := os.Getenv("CONTROL_TEST_CLIENT"); addr != "" {
		stranger(addr)
		return
	}
	os.Exit(m.Run())
}

// report is what the other account saw: the codes of a read, an order and a stream.
type report struct {
	UID                 int
	Read, Order, Events Code
	Text                string
}

func stranger(addr string) {
	c, ctx := NewClient(addr), context.Background()
	r := report{UID: os.Getuid()}
	_, err := c.Status(ctx)
	r.Read, r.Text = code(err), fmt.Sprint(err)
	r.Order = code(c.Order(ctx, "rollback", Request{}))
	ev, err := c.Events(ctx)
	r.Events = code(err)
	if err == nil {
		ev.Close()
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

func code(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, ErrNotRunning):
		return NotRunning
	}
	return Internal
}

// asNobody runs stranger as the account nobody, which is in the group that is returned.
func asNobody(t *testing.T, addr string) report {
	t.Helper()
	uid, gid := nobody(t)
	exe := filepath.Join(filepath.Dir(addr), "client") // the test's own folder is not open to others
	copyFile(t, "/proc/self/exe", exe)
	cmd := exec.Command(exe)
	cmd.Env = []string{"CONTROL_TEST_CLIENT=" + addr}
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if r.UID != int(uid) {
		t.Fatalf("ran as %d", r.UID)
	}
	return r
}

func nobody(t *testing.T) (uid, gid uint32) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root: cannot become another account")
		}
		t.Skip("not root: cannot become another account")
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	group, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id), uint32(group)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStranger: another account may not even connect.
func TestStranger(t *testing.T) {
	nobody(t)
	d := &desk{}
	_, addr := serve(t, d, "")
	r := asNobody(t, addr)
	if r.Read != NoPrivilege || r.Order != NoPrivilege || r.Events != NoPrivilege || !strings.Contains(r.Text, "sudo") {
		t.Errorf("%+v", r)
	}
}

// TestStrangerWithoutTheFileMode: what the file's mode keeps out is refused by the server as well.
func TestStrangerWithoutTheFileMode(t *testing.T) {
	nobody(t)
	d := &desk{}
	_, addr := serve(t, d, "")
	if err := os.Chmod(addr, 0o666); err != nil {
		t.Fatal(err)
	}
	r := asNobody(t, addr)
	if r.Read != NoPrivilege || r.Order != NoPrivilege || r.Events != NoPrivilege || !strings.Contains(r.Text, "may not do this") {
		t.Errorf("%+v", r)
	}
	if len(d.orders) > 0 {
		t.Errorf("orders came through: %+v", d.orders)
	}
}

// TestReader: a member of the group may read and follow, but change nothing.
func TestReader(t *testing.T) {
	_, gid := nobody(t)
	g, err := user.LookupGroupId(strconv.Itoa(int(gid)))
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{}
	_, addr := serve(t, d, g.Name)
	st, err := os.Stat(addr)
	if err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	r := asNobody(t, addr)
	if r.Read != OK || r.Events != OK || r.Order != NoPrivilege {
		t.Errorf("%+v", r)
	}
	if len(d.orders) > 0 {
		t.Errorf("orders came through: %+v", d.orders)
	}
}

func TestNobodyListens(t *testing.T) {
	dir := t.TempDir()
	addr := filepath.Join(dir, "c")
	if _, err := NewClient(addr).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if err := NewClient(addr).Order(t.Context(), "update", Request{}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a dead launcher's socket: %v", err)
	}
	again, err := Listen(addr, "")
	if err != nil {
		t.Fatalf("a dead launcher's socket is in the way: %v", err)
	}
	again.Close()
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, ""); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("a file: %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "x" {
		t.Errorf("the file is gone: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("s", 107)), ""); err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, "c"), "no-such-group-here"); err == nil {
		t.Error("an unknown group was taken")
	}
	if _, err := os.Lstat(filepath.Join(dir, "c")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a socket was left behind: %v", err)
	}
}

func TestSocketMode(t *testing.T) {
	_, addr := serve(t, &desk{}, "")
	st, err := os.Stat(addr)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}
