//go:build windows

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/launcher/child"
)

// named is an account of this machine that is made for the check, and its password.
var named = child.Password{Account: `.\` + name, Service: name}

// accountPassword makes a user of this machine and does what install does for a payload whose account has a password.
// The service then logs it on (account-named).
func accountPassword(_ context.Context, b *bench) (string, error) {
	password := rand.Text() + "a-1" // all sorts of characters, for any policy
	if err := addUser(name, password); err != nil {
		return "", err
	}
	b.user = true
	for _, want := range []bool{true, false} {
		changed, err := named.Allow()
		if err != nil {
			return "", fmt.Errorf("let it log on as a service: %w", err)
		}
		if changed != want {
			return "", fmt.Errorf("the right to log on as a service was given: %v, want %v", changed, want)
		}
	}
	if _, _, err := named.Keep([]byte("not the password")); !errors.Is(err, windows.ERROR_LOGON_FAILURE) {
		return "", fmt.Errorf("a wrong password: %w", err)
	}
	if _, _, err := named.Keep([]byte(password)); err != nil {
		return "", err
	}
	since, err := named.Check()
	return "since " + since, err
}

// removeUser takes out what accountPassword made, and looks whether it is gone.
func (b *bench) removeUser() error {
	_, err := named.Forget()
	if was, again := named.Forget(); was != "" || again != nil {
		err = errors.Join(err, fmt.Errorf("the password is still kept: %q, %w", was, again))
	}
	if !b.user {
		return err
	}
	b.user = false
	return errors.Join(err, takeRights(), deleteUser(name))
}

var (
	netapi     = windows.NewLazySystemDLL("netapi32.dll")
	netUserAdd = netapi.NewProc("NetUserAdd")
	netUserDel = netapi.NewProc("NetUserDel")
)

// userInfo is USER_INFO_1, lmaccess.h.
type userInfo struct {
	name, password *uint16
	_, privilege   uint32
	_, comment     *uint16
	flags          uint32
	_              *uint16
}

func addUser(user, password string) error {
	const privilegeUser, script, normal, neverExpires = 1, 0x1, 0x200, 0x10000
	info := userInfo{privilege: privilegeUser, flags: script | normal | neverExpires}
	var err error
	for at, text := range map[**uint16]string{&info.name: user, &info.password: password, &info.comment: "Made by wincheck, which removes it."} {
		if *at, err = windows.UTF16PtrFromString(text); err != nil {
			return err
		}
	}
	if code, _, _ := netUserAdd.Call(0, 1, uintptr(unsafe.Pointer(&info)), 0); code != 0 {
		return fmt.Errorf("make the user %s: %w", user, syscall.Errno(code))
	}
	return nil
}

func deleteUser(user string) error {
	text, err := windows.UTF16PtrFromString(user)
	if err != nil {
		return err
	}
	if code, _, _ := netUserDel.Call(0, uintptr(unsafe.Pointer(text))); code != 0 {
		return fmt.Errorf("remove the user %s: %w", user, syscall.Errno(code))
	}
	return nil
}

// takeRights takes every right from the user again, which else would stay behind as a number without a name.
func takeRights() error {
	machine, err := windows.ComputerName()
	if err != nil {
		return err
	}
	sid, _, _, err := windows.LookupSID("", machine+`\`+name)
	if err != nil {
		return nil // Wine has made no user
	}
	advapi := windows.NewLazySystemDLL("advapi32.dll")
	var attributes windows.OBJECT_ATTRIBUTES
	var policy uintptr
	const lookupNames = 0x800 // POLICY_LOOKUP_NAMES
	if status, _, _ := advapi.NewProc("LsaOpenPolicy").Call(0, uintptr(unsafe.Pointer(&attributes)), lookupNames, uintptr(unsafe.Pointer(&policy))); status != 0 {
		return fmt.Errorf("open the security policy: %w", windows.NTStatus(status).Errno())
	}
	defer advapi.NewProc("LsaClose").Call(policy)
	const all = 1
	status, _, _ := advapi.NewProc("LsaRemoveAccountRights").Call(policy, uintptr(unsafe.Pointer(sid)), all, 0, 0)
	if err := windows.NTStatus(status); status != 0 && !errors.Is(err.Errno(), windows.ERROR_FILE_NOT_FOUND) { // it had none
		return fmt.Errorf("take the rights of the user: %w", err.Errno())
	}
	return nil
}
