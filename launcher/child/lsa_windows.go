package child

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Procedures of advapi32.dll, ntsecapi.h.
var (
	lsaOpenPolicy             = advapi.NewProc("LsaOpenPolicy")
	lsaClose                  = advapi.NewProc("LsaClose")
	lsaFreeMemory             = advapi.NewProc("LsaFreeMemory")
	lsaStorePrivateData       = advapi.NewProc("LsaStorePrivateData")
	lsaRetrievePrivateData    = advapi.NewProc("LsaRetrievePrivateData")
	lsaEnumerateAccountRights = advapi.NewProc("LsaEnumerateAccountRights")
	lsaAddAccountRights       = advapi.NewProc("LsaAddAccountRights")
)

// Rights to the policy of this machine, ntsecapi.h.
const (
	policyGetPrivate    = 0x4
	policyCreateAccount = 0x10
	policyCreateSecret  = 0x20
	policyLookupNames   = 0x800
)

func realLSA() lsa {
	return lsa{find: findUser, rights: accountRights, grant: grantRight, load: loadSecret, store: storeSecret, remove: removeSecret, logOn: logOnWith}
}

// findUser asks who has a name. A name of this machine is asked for by the machine's name, since only LogonUser is
// said to know the dot.
func findUser(name string) (string, error) {
	domain, user, _ := strings.Cut(name, `\`)
	if domain == "." {
		machine, err := windows.ComputerName()
		if err != nil {
			return "", fmt.Errorf("ask for the name of this machine: %w", err)
		}
		domain = machine
	}
	sid, _, kind, err := windows.LookupSID("", domain+`\`+user)
	if err != nil {
		return "", fmt.Errorf("look for %s: %w", name, err)
	}
	if kind != windows.SidTypeUser {
		return "", fmt.Errorf("%s is not a user", name)
	}
	return sid.String(), nil
}

// policy opens the policy of this machine for one call.
func policy(access uintptr, do func(handle uintptr) error) error {
	var attributes windows.OBJECT_ATTRIBUTES // all zero, as its documentation wants it
	var h uintptr
	if err := ntStatus(lsaOpenPolicy.Call(0, uintptr(unsafe.Pointer(&attributes)), access, uintptr(unsafe.Pointer(&h)))); err != nil {
		return fmt.Errorf("open the security policy: %w", err)
	}
	defer lsaClose.Call(h)
	return do(h)
}

// ntStatus is what a call answered, as the error of Windows that people know.
func ntStatus(status, _ uintptr, _ error) error {
	if status == 0 {
		return nil
	}
	return windows.NTStatus(status).Errno()
}

// absent says of an answer that what was asked for is not there.
func absent(err error) bool { return errors.Is(err, windows.ERROR_FILE_NOT_FOUND) }

func withSecret(access uintptr, key string, do func(handle, key uintptr) error) error {
	name, err := windows.NewNTUnicodeString(key)
	if err != nil {
		return err
	}
	return policy(access, func(h uintptr) error { return do(h, uintptr(unsafe.Pointer(name))) })
}

func loadSecret(key string) (data []byte, err error) {
	err = withSecret(policyGetPrivate, key, func(h, name uintptr) error {
		var text *windows.NTUnicodeString // bytes, whatever the name says
		err := ntStatus(lsaRetrievePrivateData.Call(h, name, uintptr(unsafe.Pointer(&text))))
		if text == nil || absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		found := unsafe.Slice((*byte)(unsafe.Pointer(text.Buffer)), int(text.Length))
		data = append(make([]byte, 0, len(found)+1), found...)
		clear(found)
		_, _, _ = lsaFreeMemory.Call(uintptr(unsafe.Pointer(text))) // nothing is lost
		return nil
	})
	return data, err
}

func storeSecret(key string, data []byte) error {
	text := windows.NTUnicodeString{Length: uint16(len(data)), MaximumLength: uint16(len(data)), Buffer: (*uint16)(unsafe.Pointer(unsafe.SliceData(data)))}
	err := withSecret(policyCreateSecret, key, func(h, name uintptr) error {
		return ntStatus(lsaStorePrivateData.Call(h, name, uintptr(unsafe.Pointer(&text))))
	})
	if err != nil {
		return fmt.Errorf("keep it as a secret of Windows: %w", err)
	}
	return nil
}

func removeSecret(key string) error {
	err := withSecret(policyCreateSecret, key, func(h, name uintptr) error {
		return ntStatus(lsaStorePrivateData.Call(h, name, 0))
	})
	if err != nil && !absent(err) {
		return fmt.Errorf("remove it from the secrets of Windows: %w", err)
	}
	return nil
}

// accountRights are what was given to the account itself, not to a group that it is in.
func accountRights(sid string) (list []string, err error) {
	s, err := windows.StringToSid(sid)
	if err != nil {
		return nil, err
	}
	err = policy(policyLookupNames, func(h uintptr) error {
		var rights *windows.NTUnicodeString
		var n uint32
		err := ntStatus(lsaEnumerateAccountRights.Call(h, uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&rights)), uintptr(unsafe.Pointer(&n))))
		if absent(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read its rights: %w", err)
		}
		for _, r := range unsafe.Slice(rights, int(n)) {
			list = append(list, r.String())
		}
		_, _, _ = lsaFreeMemory.Call(uintptr(unsafe.Pointer(rights))) // nothing is lost
		return nil
	})
	return list, err
}

func grantRight(sid, right string) error {
	s, err := windows.StringToSid(sid)
	if err != nil {
		return err
	}
	name, err := windows.NewNTUnicodeString(right)
	if err != nil {
		return err
	}
	return policy(policyLookupNames|policyCreateAccount, func(h uintptr) error {
		return ntStatus(lsaAddAccountRights.Call(h, uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(name)), 1))
	})
}

func logOnWith(domain, user string, password []uint16) (windows.Token, error) {
	return callLogonUser(domain, user, &password[0], providerDefault)
}
