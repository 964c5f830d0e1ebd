package child

// Password is the password of a payload's account, which install keeps for the launcher of a service. It lies where
// Windows keeps those of its own services, among the secrets of the local security authority, which administrators
// and the system can read and nobody else. Every other sort of account has none, and neither has any on Linux.
//
// What is logged on is known by the SID that the account had at the install, so that no start of a payload has to
// ask a domain who that is. A password that was refused is not tried again: a launcher that the manager starts every
// few seconds would lock the account out.
type Password struct{ Account, Service string }

// Needed says whether the account logs on with a password.
func (p Password) Needed() bool { return needsPassword(p.Account) }

// Allow gives the account the right to log on as a service, and says whether it was missing.
func (p Password) Allow() (changed bool, err error) { return allowLogon(p) }

// Keep tries a password and keeps it in place of the one before, about which it returns a few words. One with which
// the account does not log on is not kept.
func (p Password) Keep(password []byte) (was string, changed bool, err error) {
	return keepPassword(p, password)
}

// Check tries the password that is kept and says since when it is.
func (p Password) Check() (since string, err error) { return checkPassword(p) }

// Forget takes out what is kept for the service, whosever it is, and says whose it was, "" if nothing was kept.
func (p Password) Forget() (was string, err error) { return forgetPassword(p) }
