package payload

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// environment is what the launcher tells a payload at its start.
type environment struct {
	wire, token, version string
	sockets              map[string]*socket // inherited listeners by name
	names                []string           // of sockets, in the order given
	addrs                map[string]string  // proxy mode: private addresses by name
}

// readEnvironment takes the launcher's words out of the environment, so that a process which this one
// starts does not think that they are meant for it. The first error is returned beside what could be read.
func readEnvironment() (environment, error) {
	env := environment{wire: os.Getenv(wire.EnvWire), version: os.Getenv(wire.EnvVersion)}
	if env.wire == "" {
		return environment{}, nil
	}
	token, listen, addr := os.Getenv(wire.EnvToken), os.Getenv(wire.EnvListen), os.Getenv(wire.EnvAddr)
	for _, name := range []string{wire.EnvWire, wire.EnvToken, wire.EnvListen, wire.EnvAddr} {
		_ = os.Unsetenv(name) // it can only fail for a malformed name
	}
	err := env.adopt(listen)
	if pairs, perr := parsePairs(addr); perr != nil && err == nil {
		err = fmt.Errorf("read %s: %w", wire.EnvAddr, perr)
	} else {
		env.addrs = make(map[string]string)
		for _, p := range pairs {
			env.addrs[p.name] = p.value
		}
	}
	var terr error
	if env.token, terr = readToken(token); terr != nil && err == nil {
		err = fmt.Errorf("read %s: %w", wire.EnvToken, terr)
	}
	return env, err
}

// adopt takes over the inherited listeners.
func (env *environment) adopt(listen string) error {
	env.sockets = make(map[string]*socket)
	pairs, err := parsePairs(listen)
	if err != nil {
		return fmt.Errorf("read %s: %w", wire.EnvListen, err)
	}
	for _, p := range pairs {
		s, err := adoptSocket(p.value)
		if err != nil {
			return fmt.Errorf("take over listener %s: %w", p.name, err)
		}
		env.sockets[p.name] = s
		env.names = append(env.names, p.name)
	}
	return nil
}

type pair struct{ name, value string }

// maxPairs bounds the listeners of one process; the kernel passes at most 253 descriptors in one message.
const maxPairs = 64

// parsePairs reads "http=4,admin=5".
func parsePairs(s string) ([]pair, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ",")
	if len(parts) > maxPairs {
		return nil, fmt.Errorf("%d entries, at most %d are possible", len(parts), maxPairs)
	}
	seen := make(map[string]bool)
	pairs := make([]pair, 0, len(parts))
	for _, part := range parts {
		name, value, ok := strings.Cut(part, "=")
		if !ok || name == "" || value == "" || seen[name] {
			return nil, fmt.Errorf("entry %q is not a new NAME=VALUE", part)
		}
		seen[name] = true
		pairs = append(pairs, pair{name, value})
	}
	return pairs, nil
}

// known lists the names of the listeners that the launcher passes.
func (env *environment) known() []string {
	return append(slices.Clone(env.names), slices.Sorted(maps.Keys(env.addrs))...)
}
