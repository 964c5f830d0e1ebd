package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// fakeKeeper keeps a password in memory; "right" is the one with which the account logs on.
type fakeKeeper struct{ needs, allowed, kept bool }

func (f *fakeKeeper) Needed() bool { return f.needs }

func (f *fakeKeeper) Allow() (bool, error) {
	before := f.allowed
	f.allowed = true
	return !before, nil
}

func (f *fakeKeeper) Keep(password []byte) (was string, changed bool, err error) {
	if string(password) != "right" {
		return "", false, errors.New("log it on: wrong")
	}
	if f.kept {
		was = `.\svc since 2026`
	}
	f.kept, changed = true, !f.kept
	return was, changed, nil
}

func (f *fakeKeeper) Check() (string, error) {
	if !f.kept {
		return "", errors.New("no password is kept")
	}
	return "2026", nil
}

func (f *fakeKeeper) Forget() (string, error) {
	if !f.kept {
		return "", nil
	}
	f.kept = false
	return `.\svc`, nil
}

// Install says of the right and of the password what it did, asks only when nothing was given, and takes out what is
// kept for an account that is none any more.
func TestInstallKeepsThePassword(t *testing.T) {
	typed := func(text string) func() ([]byte, error) {
		return func() ([]byte, error) { return []byte(text), nil }
	}
	never := func() ([]byte, error) { t.Error("it asks"); return nil, nil }
	f := &fakeKeeper{needs: true}
	const right, password = "right to log on as a service: ", "password of the payload's account: "
	for _, tc := range []struct {
		name  string
		given []byte
		ask   func() ([]byte, error)
		want  []string
	}{
		{"nothing typed, nothing kept", nil, typed(""), []string{right + "created", password + "failed: no password is kept"}},
		{"typed wrong", nil, typed("wrong"), []string{right + "right", password + "failed: log it on: wrong"}},
		{"typed", nil, typed("right"), []string{right + "right", password + "created"}},
		{"given again", []byte("right"), never, []string{right + "right", password + "right"}},
		{"nothing typed", nil, typed(""), []string{right + "right", password + "right (since 2026)"}},
	} {
		var got []string
		for _, s := range passwordSteps(f, tc.given, tc.ask) {
			got = append(got, s.String())
		}
		if strings.Join(got, "\n") != strings.Join(tc.want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
		}
	}
	f.needs = false
	if s := passwordSteps(f, nil, never); len(s) != 1 || s[0].String() != password+`removed (.\svc)` {
		t.Errorf("another sort of account: %v", s)
	}
	if s := passwordSteps(f, nil, never); s != nil {
		t.Errorf("and again: %v", s)
	}
}

// A file with a password is one line that nobody else can read.
func TestReadPassword(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	for text, want := range map[string]string{
		"grün 1": "grün 1", "a b \r\n": "a b ", "x\n": "x",
		"": "", "\n": "", "a\nb\n": "", "\ufeffa": "", "\xff\xfea\x00": "", strings.Repeat("x", passwordBytes+1): "",
	} {
		writePrivate(t, file, text)
		got, err := readPassword(file)
		if string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	open := filepath.Join(dir, "open")
	writeOpen(t, open, "secret")
	if got, err := readPassword(open); got != nil || err == nil || !strings.Contains(err.Error(), closeHint(open)) {
		t.Errorf("a file that others can read: %q, %v", got, err)
	}
	if got, err := readPassword(""); got != nil || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
}
