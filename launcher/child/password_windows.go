package child

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/windows"
)

// lsa is the local security authority of Windows, as far as we use it. The fake of the tests knows the steps that
// Wine lacks.
type lsa struct {
	find   func(name string) (sid string, err error) // of a user
	rights func(sid string) ([]string, error)
	grant  func(sid, right string) error
	load   func(key string) ([]byte, error) // nil if there is none
	store  func(key string, data []byte) error
	remove func(key string) error
	logOn  func(domain, user string, password []uint16) (windows.Token, error) // password ends with a zero
}

// logonRight is what LogonUser wants of an account that logs on as a service does, ntsecapi.h.
const logonRight = "SeServiceLogonRight"

// secretKey names the secret of a service. L$ is a local one: only this machine can ask for it ("Private Data
// Object", learn.microsoft.com/windows/win32/secmgmt/private-data-object).
func secretKey(service string) string { return `L$turnstone-payload-` + service }

// kept is what the secret holds, a line each: the account as the configuration names it, its SID, since when, and
// the password. refused stands behind the time.
type kept struct {
	account, sid, since string
	refused             bool
	password            []byte // zeroed by whoever got it
}

const (
	refusedMark = " refused"
	sinceForm   = "2006-01-02T15:04:05.000Z" // it tells one password from the next
)

func (k kept) print() []byte {
	since := k.since
	if k.refused {
		since += refusedMark
	}
	head := k.account + "\n" + k.sid + "\n" + since + "\n"
	return append(append(make([]byte, 0, len(head)+len(k.password)), head...), k.password...)
}

func parseKept(data []byte) (kept, bool) {
	lines := bytes.SplitN(data, []byte("\n"), 4)
	if len(lines) != 4 {
		return kept{}, false
	}
	k := kept{account: string(lines[0]), sid: string(lines[1]), password: lines[3]}
	k.since, k.refused = strings.CutSuffix(string(lines[2]), refusedMark)
	return k, true
}

// kept reads what install kept for an account.
func (l lsa) kept(p Password) (kept, error) {
	data, err := l.load(secretKey(p.Service))
	if err != nil {
		return kept{}, fmt.Errorf("read its password: %w", err)
	}
	k, ok := parseKept(data)
	switch {
	case data == nil:
		return kept{}, errors.New("no password is kept for it: run install on a terminal, or with --payload-password-file FILE")
	case !ok:
		clear(data)
		return kept{}, errors.New("what is kept in place of its password is damaged: run install again")
	case !strings.EqualFold(k.account, p.Account):
		clear(data)
		return kept{}, fmt.Errorf("the password that is kept is that of %s: run install, which asks for the right one", k.account)
	}
	return k, nil
}

// enter logs the account on with the password that is kept, unless that was refused before.
func (l lsa) enter(p Password) (windows.Token, kept, error) {
	k, err := l.kept(p)
	if err != nil {
		return 0, k, err
	}
	defer clear(k.password)
	if k.refused {
		return 0, k, fmt.Errorf("the password that is kept since %s was refused, and is not tried again so that the account is not locked out: run install with the right one", k.since)
	}
	token, err := l.try(p, k)
	if errors.Is(err, windows.ERROR_LOGON_FAILURE) {
		k.refused = true
		data := k.print()
		err = errors.Join(err, l.store(secretKey(p.Service), data))
		clear(data)
	}
	return token, k, err
}

// try logs the account on with a password and looks at who came back.
func (l lsa) try(p Password, k kept) (windows.Token, error) {
	domain, user, _ := strings.Cut(p.Account, `\`)
	text := wide(k.password)
	defer clear(text)
	token, err := l.logOn(domain, user, text)
	if errors.Is(err, windows.ERROR_LOGON_TYPE_NOT_GRANTED) {
		return 0, fmt.Errorf("log it on: %w: %s", err, byHand)
	} else if err != nil {
		return 0, fmt.Errorf("log it on: %w", err)
	}
	return token, belongs(token, k.sid)
}

// wide is a text as Windows takes it, with its zero. It leaves no copy behind.
func wide(text []byte) []uint16 {
	w := make([]uint16, 0, len(text)+1) // never fewer bytes than units
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		w, text = utf16.AppendRune(w, r), text[n:]
	}
	return append(w, 0)
}

func needsPassword(name string) bool {
	_, _, sid, err := named(name)
	return err == nil && sid == "" && !strings.EqualFold(name, restrictedName)
}

func allowLogon(p Password) (bool, error) { return realLSA().allow(p) }

func (l lsa) allow(p Password) (changed bool, err error) {
	sid, err := l.find(p.Account)
	if err != nil {
		return false, err
	}
	have, err := l.rights(sid)
	if err != nil || slices.Contains(have, logonRight) {
		return false, err
	}
	if err := l.grant(sid, logonRight); err != nil {
		return false, err
	}
	if have, err = l.rights(sid); err == nil && !slices.Contains(have, logonRight) {
		err = fmt.Errorf("the right was accepted and is not kept: %s", byHand)
	}
	return err == nil, err
}

// byHand is where a person gives the right.
const byHand = `add the account to "Log on as a service" in secpol.msc, Local Policies, User Rights Assignment; a domain's policy may take that back`

func keepPassword(p Password, password []byte) (string, bool, error) {
	return realLSA().keep(p, password)
}

func (l lsa) keep(p Password, password []byte) (was string, changed bool, err error) {
	sid, err := l.find(p.Account)
	if err != nil {
		return "", false, err
	}
	old, err := l.load(secretKey(p.Service))
	if err != nil {
		return "", false, fmt.Errorf("read the password before: %w", err)
	}
	defer clear(old)
	before, _ := parseKept(old)
	if before.account != "" {
		was = before.account + " since " + before.since
	}
	k := kept{account: p.Account, sid: sid, since: time.Now().UTC().Format(sinceForm), password: password}
	same := strings.EqualFold(before.account, k.account) && before.sid == sid && subtle.ConstantTimeCompare(before.password, password) == 1
	token, err := l.try(p, k)
	if err != nil {
		return was, false, err
	}
	_ = token.Close() // it was only tried
	if same && !before.refused {
		return was, false, nil
	}
	data := k.print()
	defer clear(data)
	return was, true, l.store(secretKey(p.Service), data)
}

func checkPassword(p Password) (string, error) { return realLSA().check(p) }

func (l lsa) check(p Password) (string, error) {
	token, k, err := l.enter(p)
	if err == nil {
		_ = token.Close() // it was only tried
	}
	return k.since, err
}

func forgetPassword(p Password) (string, error) { return realLSA().forget(p) }

func (l lsa) forget(p Password) (was string, err error) {
	data, err := l.load(secretKey(p.Service))
	if data == nil || err != nil {
		return "", err
	}
	defer clear(data)
	k, _ := parseKept(data)
	return k.account, l.remove(secretKey(p.Service))
}
