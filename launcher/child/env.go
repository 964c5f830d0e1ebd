package child

import (
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// envMark names the variable that marks a payload and, by inheritance, its descendants. Its value is the
// path of the process's record, which no other installation shares. It is no secret: it only says what to
// reap.
const envMark = "TURNSTONE_RECORD"

// firstFD is the first descriptor after stdin, stdout and stderr.
const firstFD = 3

// allowed is what a payload inherits of the launcher's environment. Everything else stays behind: the
// service manager's NOTIFY_SOCKET, WATCHDOG_* and LISTEN_*, proxy credentials and passphrases.
var allowed = map[string][]string{
	"windows": {"PATH", "PATHEXT", "SystemRoot", "SystemDrive", "ComSpec", "TEMP", "TMP", "TZ", "LANG",
		"ProgramData", "ProgramFiles", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE"},
	"": {"PATH", "LANG", "TZ", "HOME"},
}

// Environment returns what a program of the account u finds of the launcher's environment, and extra
// (NAME=VALUE), each name once.
func Environment(u *User, extra []string) []string {
	var e environ
	names, ok := allowed[runtime.GOOS]
	if !ok {
		names = allowed[""]
	}
	for _, name := range names {
		if v, ok := os.LookupEnv(name); ok {
			e.set(name, v)
		}
	}
	if u != nil {
		e.set("HOME", u.Home)
	}
	for _, nv := range extra {
		name, v, _ := strings.Cut(nv, "=")
		e.set(name, v)
	}
	return e
}

// environment returns the whole environment of p's process, each name once: the allowed ones, then what
// the Spec adds, then ours. The token and the listeners (as in wire.EnvListen) are told
// by descriptor or handle value.
func (p *Process) environment(tokenAt, listeners string) []string {
	e := environ(Environment(p.spec.User, p.spec.Env))
	e.set(envMark, p.rec.path)
	e.set(wire.EnvVersion, p.spec.Number)
	e.set(wire.EnvData, p.spec.Data)
	e.set("NOTIFY_SOCKET", p.rec.Notify)
	e.set(wire.EnvAddr, addresses(p.spec.Addr))
	wireAddr := ""
	if p.spec.Kind == SDK {
		wireAddr = p.host.o.Wire
	}
	e.set(wire.EnvWire, wireAddr)
	e.set(wire.EnvToken, tokenAt)
	e.set(wire.EnvListen, listeners)
	return e
}

// environ is an environment without doubles: of two equal names C programs read the first and Go programs
// the last.
type environ []string

// set gives name its value; an empty value takes the name out.
func (e *environ) set(name, value string) {
	*e = slices.DeleteFunc(*e, func(nv string) bool {
		n, _, _ := strings.Cut(nv, "=")
		return n == name || runtime.GOOS == "windows" && strings.EqualFold(n, name)
	})
	if name != "" && value != "" {
		*e = append(*e, name+"="+value)
	}
}

// addresses prints private addresses as in wire.EnvAddr, in a fixed order.
func addresses(addr map[string]string) string {
	var parts []string
	for name, a := range addr {
		parts = append(parts, name+"="+a)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}
