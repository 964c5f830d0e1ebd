package child

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// fakeLSA is a security authority in memory, with one account, which is the one that runs the tests. It remembers
// every piece of memory in which a password was.
type fakeLSA struct {
	sid      string
	password string
	rights   []string
	secrets  map[string]string
	logons   int
	seen     []func() bool // each says whether its memory is zeroed
}

func newFakeLSA(t *testing.T) *fakeLSA {
	who, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	return &fakeLSA{sid: who.User.Sid.String(), password: "grün 1", secrets: map[string]string{}}
}

func (f *fakeLSA) lsa() lsa {
	return lsa{
		find:   func(string) (string, error) { return f.sid, nil },
		rights: func(string) ([]string, error) { return f.rights, nil },
		grant:  func(_, right string) error { f.rights = append(f.rights, right); return nil },
		load: func(key string) ([]byte, error) {
			if f.secrets[key] == "" {
				return nil, nil
			}
			return f.watch([]byte(f.secrets[key])), nil
		},
		store:  func(key string, data []byte) error { f.secrets[key] = string(f.watch(data)); return nil },
		remove: func(key string) error { delete(f.secrets, key); return nil },
		logOn: func(_, _ string, password []uint16) (token windows.Token, err error) {
			f.logons++
			f.seen = append(f.seen, func() bool { return !slices.ContainsFunc(password, func(u uint16) bool { return u != 0 }) })
			if !slices.Contains(f.rights, logonRight) {
				return 0, windows.ERROR_LOGON_TYPE_NOT_GRANTED
			}
			if windows.UTF16ToString(password) != f.password {
				return 0, windows.ERROR_LOGON_FAILURE
			}
			err = windows.DuplicateTokenEx(windows.GetCurrentProcessToken(), windows.MAXIMUM_ALLOWED, nil, windows.SecurityImpersonation, windows.TokenPrimary, &token)
			return token, err
		},
	}
}

func (f *fakeLSA) watch(b []byte) []byte {
	password := b[bytes.LastIndexByte(b, '\n')+1:]
	f.seen = append(f.seen, func() bool { return len(bytes.Trim(password, "\x00")) == 0 })
	return b
}

// zeroed fails the test if a password is still in memory.
func (f *fakeLSA) zeroed(t *testing.T) {
	t.Helper()
	for i, zero := range f.seen {
		if !zero() {
			t.Errorf("piece %d of %d still holds a password", i, len(f.seen))
		}
	}
	if len(f.seen) == 0 {
		t.Error("no piece was seen")
	}
}

var svc = Password{`.\svc`, "acme-agent"}

func wants(t *testing.T, err error, word string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), word) {
		t.Errorf("%v, want %q", err, word)
	}
}

// A password is kept once the account logs on with it, replaced by the next one, and forgotten; a second time
// nothing changes.
func TestPasswordIsKept(t *testing.T) {
	f := newFakeLSA(t)
	l := f.lsa()
	_, err := l.check(svc)
	wants(t, err, "run install")
	_, _, err = l.keep(svc, []byte(f.password))
	wants(t, err, "Log on as a service")
	forgetful := f.lsa()
	forgetful.grant = func(string, string) error { return nil } // as Wine's
	_, err = forgetful.allow(svc)
	wants(t, err, "not kept")
	for _, want := range []bool{true, false} {
		if changed, err := l.allow(svc); err != nil || changed != want {
			t.Errorf("allow: %v, %v", changed, err)
		}
	}
	_, _, err = l.keep(svc, []byte("wrong"))
	if !errors.Is(err, windows.ERROR_LOGON_FAILURE) || len(f.secrets) > 0 {
		t.Errorf("a wrong password: %v, kept %q", err, f.secrets)
	}
	for i, want := range []bool{true, false} {
		was, changed, err := l.keep(svc, []byte(f.password))
		if err != nil || changed != want || strings.HasPrefix(was, `.\svc since 20`) == want {
			t.Errorf("keep %d: %q, %v, %v", i, was, changed, err)
		}
	}
	if since, err := l.check(svc); err != nil || !strings.HasPrefix(since, "20") {
		t.Errorf("check: %q, %v", since, err)
	}
	f.password = "blue"
	if was, changed, err := l.keep(svc, []byte("blue")); err != nil || !changed || was == "" {
		t.Errorf("another password: %q, %v, %v", was, changed, err)
	}
	if _, err := l.check(svc); err != nil {
		t.Error(err)
	}
	_, err = l.check(Password{`.\other`, "acme-agent"})
	wants(t, err, `that of .\svc`)
	if f.secrets[`L$turnstone-payload-acme-agent`] == "" {
		t.Errorf("kept as %v", f.secrets)
	}
	for _, want := range []string{`.\svc`, ""} {
		if was, err := l.forget(svc); err != nil || was != want || len(f.secrets) > 0 {
			t.Errorf("forget: %q, %v", was, err)
		}
	}
	f.zeroed(t)
}

// A password that is refused is tried once and no more, until install brings another: a launcher that is started
// again every few seconds would lock the account out.
func TestRefusedPasswordIsTriedOnce(t *testing.T) {
	f := newFakeLSA(t)
	l := f.lsa()
	f.rights = []string{logonRight}
	if _, _, err := l.keep(svc, []byte(f.password)); err != nil {
		t.Fatal(err)
	}
	f.password, f.logons = "changed elsewhere", 0
	for _, word := range []string{windows.ERROR_LOGON_FAILURE.Error(), "not tried again", "not tried again"} {
		_, err := newKeyed(l, svc)
		wants(t, err, word)
	}
	if f.logons != 1 {
		t.Errorf("tried %d times", f.logons)
	}
	if _, changed, err := l.keep(svc, []byte(f.password)); err != nil || !changed {
		t.Errorf("the right one: %v, %v", changed, err)
	}
	if _, err := newKeyed(l, svc); err != nil {
		t.Error(err)
	}
	f.zeroed(t)
}

// Who came back is compared with who the account was at the install, whatever the name leads to by now.
func TestPasswordOfAnotherAccount(t *testing.T) {
	f := newFakeLSA(t)
	f.rights = []string{logonRight}
	mine := f.sid
	f.sid = "S-1-5-21-1-2-3-1000"
	_, _, err := f.lsa().keep(svc, []byte(f.password))
	wants(t, err, mine+" came back and not "+f.sid)
	if len(f.secrets) > 0 {
		t.Error("it is kept")
	}
	f.secrets[secretKey(svc.Service)] = string(kept{svc.Account, f.sid, "2026", false, []byte(f.password)}.print())
	_, err = newKeyed(f.lsa(), svc)
	wants(t, err, mine+" came back and not "+f.sid)
	f.secrets[secretKey(svc.Service)] = "damaged"
	_, err = newKeyed(f.lsa(), svc)
	wants(t, err, "damaged")
}

// A payload runs with the logon of its account. A password that install replaces counts from the next start of a
// payload; one that does not work costs a warning, and the logon before goes on.
func TestPayloadOfAnAccountWithPassword(t *testing.T) {
	f := newFakeLSA(t)
	f.rights = []string{logonRight}
	l := f.lsa()
	if _, _, err := l.keep(svc, []byte(f.password)); err != nil {
		t.Fatal(err)
	}
	u, err := newKeyed(l, svc)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, options(t))
	run := func() {
		t.Helper()
		data := t.TempDir()
		s := program(t, Plain, "rights", "TS_DATA="+data)
		s.User = u
		if err := u.Give(data); err != nil {
			t.Fatal(err)
		}
		p := start(t, h, s)
		says(t, p, "write <nil>")
		p.Stop(soon(t), patience)
	}
	f.logons = 0
	first := u.token
	run()
	if f.logons != 0 || u.token != first {
		t.Errorf("logged on %d times more with the same password", f.logons)
	}
	f.password = "blue"
	if _, _, err := l.keep(svc, []byte("blue")); err != nil {
		t.Fatal(err)
	}
	f.logons = 0
	run()
	run()
	second := u.token
	if f.logons != 1 || second == first {
		t.Errorf("logged on %d times with a new password", f.logons)
	}
	f.secrets[secretKey(svc.Service)] = string(kept{svc.Account, f.sid, "2026", false, []byte("wrong")}.print())
	run()
	run()
	if f.logons != 2 || u.token != second {
		t.Errorf("logged on %d times, token %v", f.logons, u.token)
	}
	f.zeroed(t)
}

// What is kept is read as it was written.
func TestKeptIsReadAsItWasWritten(t *testing.T) {
	for _, k := range []kept{{`.\svc`, "S-1-5-21-1", "2026", false, []byte("a\nb\n")}, {`ACME\svc`, "S-1", "2026", true, []byte("x refused")}} {
		got, ok := parseKept(k.print())
		if !ok || got.account != k.account || got.sid != k.sid || got.since != k.since || got.refused != k.refused || !bytes.Equal(got.password, k.password) {
			t.Errorf("%v becomes %v", k, got)
		}
	}
}

// Wine keeps no secrets, and what Windows says when there is none is no error.
func TestNoPasswordIsKept(t *testing.T) {
	p := Password{`.\nobody-has-this`, "turnstone-test"}
	if was, err := p.Forget(); was != "" || err != nil {
		t.Errorf("forget: %q, %v", was, err)
	}
	_, err := p.Check()
	wants(t, err, "no password is kept")
	_, err = p.Allow()
	wants(t, err, "look for")
}
