package pipe

import (
	"strings"
	"sync"

	"golang.org/x/sys/windows"
)

// Prefix begins the name of every pipe.
const Prefix = `\\.\pipe\`

const protected = Prefix + `ProtectedPrefix\Administrators\`

// Name returns the name that this process gives to the pipe called name: a protected one if it may.
func Name(name string) string {
	if Administrator() {
		return Protected(name)
	}
	return name
}

// Protected returns the name that an administrator's launcher gives to the pipe called name.
func Protected(name string) string {
	if rest, found := strings.CutPrefix(name, Prefix); found && !strings.HasPrefix(name, Prefix+"ProtectedPrefix") {
		return protected + rest
	}
	return name
}

// Administrator says whether this process has the rights of Administrators, as LocalSystem has; a token that is not
// elevated has them for denying only.
var Administrator = sync.OnceValue(func() bool {
	sid, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return false
	}
	is, err := windows.Token(0).IsMember(sid)
	return err == nil && is
})
