package child

import (
	"errors"
	"fmt"
	"syscall"
)

// User is the account that a payload runs as.
type User struct {
	UID, GID uint32   // Unix
	Groups   []uint32 // supplementary; none means none, not the launcher's
	Home     string   // HOME of the process; "" leaves it out
	//lint:ignore U1000 used on Windows alone
	logon // what Windows has in their place
}

// Same is the name of the launcher's own account.
const Same = "same"

// ErrAccount says that a payload cannot run under the account that was named.
var ErrAccount = errors.New("no account for a payload")

// Account finds the account of a payload by its name; it is nil for Same. On Windows it is logged on here, and
// service is the launcher's own service, whose identity a restricted account is given. Errors wrap ErrAccount.
func Account(name, service string) (*User, error) {
	if name == Same {
		return nil, nil
	}
	u, err := findAccount(name, service)
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrAccount, name, err)
	}
	return u, nil
}

// CheckAccount says what is wrong with the name of an account, without logging it on.
func CheckAccount(name string) error {
	if name == Same {
		return nil
	}
	return checkAccount(name)
}

// AccountHint is what to write for a payload's account on this system.
const AccountHint = accountHint

// Give makes a folder the account's own, to read and write. The launcher's account has it already.
func (u *User) Give(dir string) error {
	if u == nil {
		return nil
	}
	return u.give(dir)
}

// Show lets the account read a folder and run what is in it.
func (u *User) Show(dir string) error {
	if u == nil {
		return nil
	}
	return u.show(dir)
}

// Attr makes a program that another package starts, a health probe say, run with the rights of u; nil, which
// changes nothing, for a nil u.
func (u *User) Attr() *syscall.SysProcAttr {
	if u == nil {
		return nil
	}
	return u.attr()
}
