package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// kind is what a payload can do; the first of each list, and the probe, are the defaults.
type kind struct {
	modes, strategies []string
	probe             string
}

var kinds = map[string]kind{
	"sdk":        {[]string{"handoff", "proxy"}, []string{"parallel", "exclusive"}, "http"},
	"plain":      {[]string{"proxy"}, []string{"parallel", "exclusive"}, "http"},
	"activation": {[]string{"handoff"}, []string{"exclusive"}, "none"}, // it cannot park what it accepts from, and has no private port to ask
}

var (
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// check records everything in c that cannot work.
func (d *document) check(c *Config, root bool) {
	d.checkSigned("product", c.Product, `name the product as its releases do: product = "acme-agent"`)
	d.checkRepository(c)
	if c.State.Dir == "" {
		d.bad("state.dir", "name a folder that only the launcher writes: [state] "+host.StateHint, "missing")
	} else if err := child.CheckWire(c.wire()); err != nil {
		d.bad("state.dir", `name a folder with a shorter path: the sockets of payloads lie in it`, "%v", err)
	}
	d.checkListen(c)
	d.checkPayload(c, root)
	d.checkTraffic(c)
	d.checkHealth(c)
	d.checkTimes(c)
	d.checkUpdate(c)
	d.checkLauncher(c)
	if c.Control.Socket != "" {
		if err := control.CheckAddress(c.Control.Socket); err != nil {
			d.bad("control.socket", control.AddressHint, "%v", err)
		}
	}
}

// checkSigned is checkName for a name that signed documents carry, which must be one that can be published.
func (d *document) checkSigned(path, name, advice string) {
	switch {
	case name == "":
		d.bad(path, advice, "missing")
	case manifest.CheckName(name) != nil:
		d.bad(path, advice, "not a name that can be published (lower-case letters, digits and inner hyphens; at most 64; not that of a TUF role)")
	}
}

func (d *document) checkName(path, name, advice string) {
	switch {
	case name == "":
		d.bad(path, advice, "missing")
	case !nameForm.MatchString(name):
		d.bad(path, advice, "not a name (lower-case letters, digits, - and _; a letter first; at most 32)")
	}
}

func (d *document) checkRepository(c *Config) {
	r := c.Repository
	if r.URL == "" {
		d.bad("repository.url", addressAdvice, "missing")
	} else {
		d.checkAddress("repository.url", r.URL)
	}
	seen := map[string]bool{r.URL: true}
	for i, m := range r.Mirrors {
		path := fmt.Sprintf("repository.mirrors[%d]", i)
		d.checkAddress(path, m)
		if seen[m] {
			d.bad(path, "name each place once", "used twice")
		}
		seen[m] = true
	}
	if len(r.Mirrors) > maxMirrors {
		d.bad("repository.mirrors", "name the nearest ones", "more than %d", maxMirrors)
	}
	d.checkSigned("repository.channel", r.Channel, `name a channel of the repository: channel = "stable"`)
	if r.Root == "" {
		d.bad("repository.root", `name the vendor's first root: root = "root.json" (release init writes it)`, "missing")
	}
	d.between("repository.poll", r.Poll, time.Second, 7*24*time.Hour)
	d.between("repository.max_staleness", r.MaxStaleness, 0, 10*365*24*time.Hour)
	d.checkProxy(r)
	switch {
	case r.ClientCert == "" && r.ClientKey != "":
		d.bad("repository.client_key", "name its certificate too, or remove the key", "is the key of no certificate")
	case r.ClientCert != "" && r.ClientKey == "":
		d.bad("repository.client_cert", "name its key too: client_key = \"client.key\"", "has no key")
	}
	if r.MaxRate != 0 && r.MaxRate < 1<<10 {
		d.bad("repository.max_rate", `use at least "1KiB" a second`, "out of range")
	}
}

// maxMirrors is how many places are asked at most before a file is called missing.
const maxMirrors = 16

const addressAdvice = `name where releases are published: url = "https://updates.example.com/agent" or an absolute path`

func (d *document) checkAddress(path, address string) {
	u, err := url.Parse(address)
	switch {
	case filepath.IsAbs(address):
	case strings.HasPrefix(address, `\\`):
		d.bad(path, "mount the share, and give the absolute path", "shares are named so on Windows only")
	case err != nil || !slices.Contains([]string{"http", "https", "file"}, u.Scheme):
		d.bad(path, addressAdvice, "not an http, https or file URL, nor an absolute path")
	case u.Scheme != "file" && u.Host == "":
		d.bad(path, addressAdvice, "has no host")
	case u.User != nil:
		d.bad(path, "leave the password out: releases are trusted by their signatures", "has a user name in it")
	default:
		if err := fetch.CheckAddress(address); err != nil {
			d.bad(path, addressAdvice, "%v", err)
		}
	}
}

func (d *document) checkProxy(r RepositoryConfig) {
	u, err := url.Parse(r.Proxy)
	switch {
	case r.Proxy == "" && r.ProxyLogin == "":
	case r.Proxy == "" || r.Proxy == proxyFromEnvironment:
		if r.ProxyLogin != "" {
			d.bad("repository.proxy_login", `name the proxy: proxy = "http://proxy.example.com:3128"`, "is for a proxy that is named")
		}
	case err != nil || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) || u.Host == "" || strings.Trim(u.Path, "/") != "":
		d.bad("repository.proxy", `write proxy = "http://proxy.example.com:3128" (or https, socks5), or proxy = "environment"`, "not a proxy")
	case u.User != nil:
		d.bad("repository.proxy", `put user:password into a file of its own: proxy_login = "proxy.login"`, "has a user name in it")
	}
}

func (d *document) checkListen(c *Config) {
	names, addresses := map[string]bool{}, map[string]bool{}
	for i, l := range c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		d.checkName(path+".name", l.Name, `name the listener as the program asks for it: name = "http"`)
		if l.Name != "" && names[l.Name] {
			d.bad(path+".name", "give each listener its own name", "used twice")
		}
		_, address, err := splitAddress(l.Address)
		switch {
		case l.Address == "":
			d.bad(path+".address", `name where clients connect: address = "127.0.0.1:8080" or ":8080"`, "missing")
		case err != nil:
			d.bad(path+".address", `write "host:port" with an IP address or "localhost", ":port", or "unix:/absolute/path"`, "%v", err)
		case addresses[address] && !strings.HasSuffix(address, ":0"):
			d.bad(path+".address", "give each listener its own address", "used twice")
		}
		names[l.Name], addresses[address] = true, true
	}
}

// splitAddress turns a listener's address into what net.Listen takes. Names other than localhost are
// refused, since what they mean can change between two starts.
func splitAddress(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return "", "", fmt.Errorf("not an absolute path")
		}
		return "unix", path, nil
	}
	for _, p := range []string{"udp:", "quic:", "udp4:", "udp6:"} {
		if strings.HasPrefix(s, p) {
			return "", "", fmt.Errorf("UDP and QUIC sockets cannot be handed over yet")
		}
	}
	s = strings.TrimPrefix(s, "tcp:")
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", "", fmt.Errorf("not a host and a port")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("the port is not a number from 0 to 65535")
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && host != "localhost" {
		return "", "", fmt.Errorf("the host is not an IP address")
	}
	return "tcp", s, nil
}

func (d *document) checkPayload(c *Config, root bool) {
	p := c.Payload
	if _, ok := kinds[p.Kind]; !ok {
		d.bad("payload.kind", `use "sdk" (imports the payload package), "plain" (any program) or "activation" (LISTEN_FDS)`, "not a kind of payload")
	}
	d.checkCommand("payload.command", c, p.Command, `name the program: command = ["{{.Exe}}", "--flag"]`)
	if root && p.User == "" {
		d.bad("payload.user", "name the account of the program: "+child.AccountHint+`; or user = "same" to run it with all rights`, "missing, and the launcher has all rights of this machine")
	}
	if p.CrashLoop != "rollback" && p.CrashLoop != "stay" {
		d.bad("payload.crash_loop", `use "rollback" (to the version before it) or "stay" (start it again for ever)`, "not a policy")
	}
	for name := range p.Env {
		path := "payload.env." + name
		switch {
		case !envForm.MatchString(name):
			d.bad(path, "use letters, digits and _", "not the name of an environment variable")
		case reservedEnv(name):
			d.bad(path, "choose another name: this one is set by the launcher or the service manager", "reserved")
		case strings.ContainsRune(p.Env[name], 0):
			d.bad(path, "remove the zero byte", "holds a zero byte")
		default:
			d.checkWord(path, c, p.Env[name])
		}
	}
}

// reservedEnv names what would let the configuration break the words between launcher and payload.
func reservedEnv(name string) bool {
	for _, prefix := range []string{"TURNSTONE_", "LISTEN_", "WATCHDOG_", "NOTIFY_SOCKET"} {
		if strings.HasPrefix(strings.ToUpper(name), prefix) {
			return true
		}
	}
	return false
}

func (d *document) checkCommand(path string, c *Config, command []string, advice string) {
	if len(command) == 0 || command[0] == "" {
		d.bad(path, advice, "empty")
		return
	}
	for i, word := range command {
		d.checkWord(fmt.Sprintf("%s[%d]", path, i), c, word)
	}
}

// checkWord tries a template on made-up values, so that a misspelt name is found before an update.
func (d *document) checkWord(path string, c *Config, word string) {
	data := CommandData{Ports: map[string]string{}}
	for _, l := range c.Listen {
		data.Ports[l.Name] = "1"
	}
	if _, err := render(word, data); err != nil {
		d.bad(path, `use {{.Exe}}, {{.File}}, {{.Dir}}, {{.Data}}, {{.Port}} or {{.PortOf "NAME"}}`, "%v", err)
	}
}

func (d *document) checkTraffic(c *Config) {
	k, ok := kinds[c.Payload.Kind]
	if !ok {
		return // said already
	}
	if c.Traffic.Mode != "handoff" && c.Traffic.Mode != "proxy" {
		d.bad("traffic.mode", `use "handoff" (the program accepts by itself) or "proxy" (the launcher forwards)`, "not a mode")
	} else if !slices.Contains(k.modes, c.Traffic.Mode) {
		d.bad("traffic.mode", fmt.Sprintf("use %q", k.modes[0]), "a payload of kind %q cannot be served this way", c.Payload.Kind)
	}
	if c.Traffic.Strategy != "parallel" && c.Traffic.Strategy != "exclusive" {
		d.bad("traffic.strategy", `use "parallel" (both versions run) or "exclusive" (never two at once)`, "not a strategy")
	} else if !slices.Contains(k.strategies, c.Traffic.Strategy) {
		d.bad("traffic.strategy", fmt.Sprintf("use %q", k.strategies[0]), "a payload of kind %q cannot run beside its predecessor", c.Payload.Kind)
	}
}

func (d *document) checkHealth(c *Config) {
	h := c.Health
	switch h.Probe {
	case "http":
		if !strings.HasPrefix(h.Path, "/") {
			d.bad("health.path", `start it with a slash: path = "/healthz"`, "not the path of a URL")
		}
	case "exec":
		d.checkCommand("health.command", c, h.Command, `name the program that exits 0 when the payload is healthy: command = ["/usr/bin/check", "{{.Port}}"]`)
	case "tcp", "none":
	default:
		d.bad("health.probe", `use "http", "tcp", "exec" or "none"`, "not a probe")
	}
	if h.Probe != "exec" && len(h.Command) > 0 {
		d.bad("health.command", `remove it, or set probe = "exec"`, "is used by the exec probe alone")
	}
	if len(c.Listen) == 0 && c.Payload.Kind != "sdk" && (h.Probe == "http" || h.Probe == "tcp") {
		d.bad("health.probe", `add a [[listen]], or use probe = "exec" or "none"`, "there is no listener to probe")
	}
	if c.Payload.Kind == "activation" && len(c.Listen) > 0 && (h.Probe == "http" || h.Probe == "tcp") {
		if network, _ := c.Listen[0].Network(); network == "unix" {
			d.bad("health.probe", `use probe = "none" with notify = true, or "exec", or make a TCP listener the first one`, "the first listener has no address that could be asked")
		}
	}
	if len(h.SelfCheck) > 0 {
		d.checkCommand("health.self_check", c, h.SelfCheck, `name the program that exits 0 when the version can work here: self_check = ["{{.Exe}}", "--self-check"]`)
	}
	if h.Good < 1 || h.Good > 100 {
		d.bad("health.good", "use 1 to 100 probes in a row", "out of range")
	}
}

func (d *document) checkUpdate(c *Config) {
	u := c.Update
	if len(u.BeforeSwitch) > 0 {
		d.checkCommand("update.before_switch", c, u.BeforeSwitch, `name the program: before_switch = ["/usr/local/bin/snapshot", "{{.Data}}"]`)
	}
	d.between("update.before_switch_timeout", u.Timeout, time.Millisecond, 24*time.Hour)
	if u.SpaceMB < 0 || u.SpaceMB > 1<<30 {
		d.bad("update.before_switch_space_mb", "use a number of MiB from 0", "out of range")
	}
	if c.Probation.MemoryMB < 0 || c.Probation.MemoryMB > 1<<30 {
		d.bad("probation.memory_mb", "use a number of MiB, or 0 for any", "out of range")
	}
}

func (d *document) checkLauncher(c *Config) {
	const advice = `name a channel of its own, whose releases are launchers: channel = "launcher"`
	if name := c.Launcher.Channel; name != "" {
		d.checkName("launcher.channel", name, advice)
		if name == c.Repository.Channel {
			d.bad("launcher.channel", advice, "is the channel of the payload")
		}
	}
	d.between("launcher.trial", c.Launcher.Trial, time.Second, time.Hour)
}

func (d *document) checkTimes(c *Config) {
	d.between("health.interval", c.Health.Interval, time.Millisecond, time.Hour)
	d.between("health.timeout", c.Health.Timeout, time.Millisecond, time.Hour)
	d.between("health.ready_timeout", c.Health.ReadyTimeout, 10*time.Millisecond, 24*time.Hour)
	d.between("payload.restart_pause", c.Payload.RestartPause, 10*time.Millisecond, lastPause)
	d.between("probation.time", c.Probation.Time, 0, 30*24*time.Hour)
	d.between("drain.deadline", c.Drain.Deadline, 0, 24*time.Hour)
	d.between("drain.idle", c.Drain.Idle, 0, c.Drain.Deadline)
	d.between("drain.stream", c.Drain.Stream, 0, 7*24*time.Hour)
	d.between("drain.kill", c.Drain.Kill, 0, time.Hour)
	d.between("drain.stop", c.Drain.Stop, time.Second, 24*time.Hour)
	if c.Probation.Fall < 1 || c.Probation.Fall > 1000 {
		d.bad("probation.fall", "use 1 to 1000 failed probes in a row", "out of range")
	}
	if !(c.Probation.Errors >= 0 && c.Probation.Errors <= 1) { // written so that NaN is refused too
		d.bad("probation.errors", "use a share from 0 to 1, such as 0.05", "out of range")
	}
}

func (d *document) between(path string, v, least, most time.Duration) {
	if v < least || v > most {
		d.bad(path, fmt.Sprintf("use %s to %s", exact(least), exact(most)), "out of range")
	}
}
