package host

import (
	"os"
	"syscall"
)

// Sockets returns the listening sockets that the service manager hands to this process, by name: those that an
// earlier launcher gave it by KeepSocket, and those that it opened itself (a .socket unit with FileDescriptorName).
// The caller owns the files; only the first call has them. It is empty where no manager keeps sockets: in a
// console, and on Windows.
//
// Nothing is said of what the files are. They must be checked before anybody is served on them.
func Sockets() map[string]*os.File { return sockets() }

// KeepSocket gives a duplicate of a socket to the service manager, which hands it to the next process of this
// service if this one dies, and closes it when the service is stopped. While the manager has it, a
// connection waits in its queue and is not refused, whoever lives or not. A socket that it has already is
// not kept twice. Without such a manager nothing happens.
func KeepSocket(name string, conn syscall.RawConn) error { return keepSocket(name, conn) }

// ForgetSocket has the service manager close every socket that it keeps under this name.
func ForgetSocket(name string) error { return forgetSocket(name) }
