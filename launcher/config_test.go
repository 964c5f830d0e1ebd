package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// conf is where the configurations of these tests lie.
var conf = native("/x/launcher.toml")

const smallest = `product = "acme"
[repository]
url = "https://example.com/repo"
root = "root.json"
[state]
dir = "state"
`

func TestConfigDefaults(t *testing.T) {
	file := native("/etc/acme/launcher.toml")
	c, err := parseConfig(file, []byte(smallest), false)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.File, want.Product = file, "acme"
	want.Repository.URL, want.Repository.Root = "https://example.com/repo", path("/etc/acme/root.json")
	want.State.Dir, want.Payload.Data = path("/etc/acme/state"), path("/etc/acme/state/data")
	want.Payload.User = "same"
	want.Traffic = TrafficConfig{Mode: "handoff", Strategy: "parallel"}
	want.Control.Socket = control.Address(want.State.Dir, "acme")
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if c.Payload.CrashLoop != "rollback" || c.Health.Good != 3 || c.Probation.Time != 10*time.Minute || c.Drain.Deadline != 30*time.Second || c.Drain.Stop != 30*time.Second || c.Log.Level != slog.LevelInfo {
		t.Errorf("defaults changed: %+v", c)
	}
}

func TestConfigTrafficFollowsKind(t *testing.T) {
	for kind, want := range map[string]TrafficConfig{
		"sdk": {"handoff", "parallel"}, "plain": {"proxy", "parallel"}, "activation": {"handoff", "exclusive"},
	} {
		file := smallest + fmt.Sprintf("[payload]\nkind = %q\n[[listen]]\nname = \"http\"\naddress = \":0\"\n", kind)
		c, err := parseConfig(conf, []byte(file), false)
		if err != nil || c.Traffic != want {
			t.Errorf("%s: %+v, %v", kind, c.Traffic, err)
		}
	}
}

// full says everything, each value unlike its default.
var full = native(`product = "acme-agent"

[repository]
url = "https://updates.example.com/agent"
channel = "beta"
root = "/etc/acme/root.json"
poll = "90s"
max_staleness = "72h"
mirrors = ["https://eu.example.com/agent", "/mnt/releases"]
proxy = "http://proxy.example.com:3128"
proxy_login = "/etc/acme/proxy.login"
ca = "/etc/acme/ca.pem"
client_cert = "/etc/acme/client.pem"
client_key = "/etc/acme/client.key"
max_rate = "1500kB"

[state]
dir = "/var/lib/acme"

[payload]
command = ["python3", "{{.File}}", "--port={{.PortOf \"http\"}}", "quote \" and \t tab"]
kind = "plain"
user = "same"
data = "/srv/acme"
crash_loop = "stay"
restart_pause = "1s"
env = { TOKEN_FILE = "{{.Data}}/token", "GREETING" = "grüß \u0007" }

[traffic]
mode = "proxy"
strategy = "exclusive"

[health]
probe = "exec"
path = "/ready"
command = ["/usr/bin/check", "{{.Port}}"]
interval = "250ms"
timeout = "1.5s"
good = 1
ready_timeout = "1h30m"
notify = true
self_check = ["{{.Exe}}", "--self-check"]

[probation]
time = "2h"
min_requests = 0
fall = 5
errors = 1
memory_mb = 512

[update]
before_switch = ["/usr/local/bin/snapshot", "{{.Data}}"]
before_switch_timeout = "90s"
before_switch_space_mb = 100

[drain]
deadline = "1m"
idle = "2s"
stream = "24h"
kill = "3s"
stop = "1m"

[control]
socket = "/run/acme/control.sock"
read_group = "adm"

[log]
level = "debug"

[launcher]
channel = "launcher"
trial = "30s"

[[listen]]
name = "http"
address = "127.0.0.1:8080"

[[listen]]
name = "admin"
address = "unix:/run/acme/admin.sock"
`)

func TestConfigShowReadsBack(t *testing.T) {
	for name, file := range map[string]string{"full": full, "smallest": smallest} {
		doc, err := parseDocument(conf, []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseConfig(conf, []byte(file), false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		shown := showConfig(c, doc.has)
		again, err := parseConfig(conf, []byte(shown), false)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, shown)
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%s:\n%+v\n%+v\n%s", name, c, again, shown)
		}
		if marked := strings.Contains(shown, "# default"); marked != (name == "smallest") {
			t.Errorf("%s: defaults marked: %v\n%s", name, marked, shown)
		}
	}
}

func TestConfigHash(t *testing.T) {
	base, err := parseConfig(conf, []byte(full), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		old, new string
		changes  bool
	}{
		{`poll = "90s"`, `poll = "91s"`, false},
		{`level = "debug"`, `level = "info"`, false},
		{`stream = "24h"`, `stream = "23h"`, false},
		{`restart_pause = "1s"`, `restart_pause = "2s"`, false},
		{`before_switch_space_mb = 100`, `before_switch_space_mb = 0`, false},
		{`memory_mb = 512`, `memory_mb = 256`, true},
		{`crash_loop = "stay"`, `crash_loop = "rollback"`, false},
		{`interval = "250ms"`, `interval = "251ms"`, true},
		{`/token`, `/other`, true},
		{`127.0.0.1:8080`, `127.0.0.1:8081`, true},
	} {
		c, err := parseConfig(conf, []byte(strings.Replace(full, tc.old, tc.new, 1)), false)
		if err != nil {
			t.Fatal(err)
		}
		if (c.Hash() != base.Hash()) != tc.changes {
			t.Errorf("%s: changes the hash: %v", tc.new, !tc.changes)
		}
	}
}

// What editors of Windows put before the text is read over, or named.
func TestConfigEncodings(t *testing.T) {
	if c, err := parseConfig(conf, []byte("\xef\xbb\xbf"+strings.ReplaceAll(smallest, "\n", "\r\n")), false); err != nil || c.Product != "acme" {
		t.Errorf("%q, %v", c.Product, err)
	}
	for _, mark := range []string{"\xff\xfe", "\xfe\xff"} {
		if _, err := parseConfig(conf, []byte(mark+"p\x00"), false); err == nil || !strings.Contains(err.Error(), "save it as UTF-8") {
			t.Errorf("%v", err)
		}
	}
}

func TestConfigBadInput(t *testing.T) {
	for _, tc := range append(badConfigs, badHere...) {
		t.Run(tc.name, func(t *testing.T) {
			old := native(tc.old)
			file := strings.Replace(full, old, native(tc.new), 1)
			if file == full {
				t.Fatalf("%q is not in full", old)
			}
			_, err := parseConfig(conf, []byte(file), false)
			checkFault(t, file, err, native(tc.at), tc.text, native(tc.advice))
		})
	}
}

func TestConfigValueForTable(t *testing.T) {
	file := "log = 3\n" + smallest
	_, err := parseConfig(conf, []byte(file), false)
	checkFault(t, file, err, "3", "log: not a table", "[log]")
	file = "listen = 3\n" + smallest
	_, err = parseConfig(conf, []byte(file), false)
	checkFault(t, file, err, "3", "listen: not a list", "[[listen]]")
	file = smallest + "[payload]\nenv = 3\n"
	_, err = parseConfig(conf, []byte(file), false)
	checkFault(t, file, err, "3", "payload.env: not a table", "[payload.env]")
}

func TestConfigNoListener(t *testing.T) {
	file := smallest + "[payload]\nkind = \"plain\"\n"
	_, err := parseConfig(conf, []byte(file), false)
	checkFault(t, file, err, "", "health.probe: there is no listener to probe", "[[listen]]")
	for _, probe := range []string{"http", "tcp"} {
		file := smallest + "[payload]\nkind = \"activation\"\n[health]\nprobe = \"" + probe + "\"\n"
		_, err := parseConfig(conf, []byte(file), false)
		checkFault(t, file, err, `"`+probe+`"`, "health.probe: there is no listener to probe", `"none"`)
		file += native("[[listen]]\nname = \"http\"\naddress = \"unix:/run/http.sock\"\n")
		_, err = parseConfig(conf, []byte(file), false)
		checkFault(t, file, err, `"`+probe+`"`, "no address that could be asked", "notify = true")
	}
}

// checkFault looks for a fault with a text and an advice whose carets stand below at; "" leaves the place
// open. It also checks that the line it shows is the line it names.
func checkFault(t *testing.T, file string, err error, at, text, advice string) {
	t.Helper()
	var bad *configError
	if !errors.As(err, &bad) {
		t.Fatalf("not refused: %v", err)
	}
	if codeOf(err) != control.Usage {
		t.Errorf("exit code %d", codeOf(err))
	}
	for _, block := range strings.Split(err.Error(), "\n\n")[1:] {
		lines := strings.Split(block, "\n")
		if len(lines) != 4 {
			t.Fatalf("not a fault:\n%s", block)
		}
		var n int
		if _, err := fmt.Sscanf(lines[0], "line %d:", &n); err != nil {
			t.Fatalf("no line number: %s", lines[0])
		}
		shown := lines[1][len("   1 | "):]
		if want := strings.Split(file, "\n")[n-1]; shown != want {
			t.Errorf("line %d is %q, shown as %q", n, want, shown)
		}
		from, to := strings.Index(lines[2], "^"), strings.LastIndex(lines[2], "^")
		if from < 0 {
			t.Fatalf("no caret:\n%s", block)
		}
		runes := []rune(lines[1] + " ")
		under := string(runes[min(from, len(runes)-1):min(to+1, len(runes))])
		if strings.Contains(lines[0], text) && strings.Contains(lines[3], advice) && (at == "" || under == at) {
			return
		}
	}
	t.Errorf("no fault %q below %q with %q in:\n%v", text, at, advice, err)
}

func TestConfigAllFaultsAtOnce(t *testing.T) {
	_, err := parseConfig(conf, []byte("product = 3\n\n[repository]\nurl = \"x\"\npol = 1\n"), true)
	want := conf + `: 6 errors

line 1: state.dir: missing
   1 | product = 3
     | ^
     name a folder that only the launcher writes: [state] ` + host.StateHint + `

line 1: payload.user: missing, and the launcher has all rights of this machine
   1 | product = 3
     | ^
     name the account of the program: ` + child.AccountHint + `; or user = "same" to run it with all rights

line 1: product: not a text
   1 | product = 3
     |           ^
     put it in quotes: "..."

line 3: repository.root: missing
   3 | [repository]
     |  ^^^^^^^^^^
     name the vendor's first root: root = "root.json" (release init writes it)

line 4: repository.url: not an http, https or file URL, nor an absolute path
   4 | url = "x"
     |       ^^^
     name where releases are published: url = "https://updates.example.com/agent" or an absolute path

line 5: repository.pol: unknown key
   5 | pol = 1
     | ^^^
     did you mean poll?`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestConfigRootMustNameTheAccount(t *testing.T) {
	_, err := parseConfig(conf, []byte(smallest), true)
	checkFault(t, smallest, err, "", "payload.user: missing, and the launcher has all rights of this machine", `user = "same"`)
	if _, err := parseConfig(conf, []byte(smallest+"[payload]\nuser = \"same\"\n"), true); err != nil {
		t.Error(err)
	}
}

func TestConfigMachine(t *testing.T) {
	name := filepath.Join(t.TempDir(), "launcher.toml")
	file := smallest + "[payload]\nuser = \"nobody-has-this-name\"\n[control]\nread_group = \"nor-this\"\n"
	write(t, name, file)
	c, err := loadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	err = c.checkMachine()
	checkFault(t, file, err, `"root.json"`, "cannot read", "copy the root.json")
	checkFault(t, file, err, `"nobody-has-this-name"`, "payload.user: ", child.AccountHint)
	checkFault(t, file, c.checkReaders(), `"nor-this"`, "control.read_group: ", "make the group")
}

func TestConfigTooLong(t *testing.T) {
	name := filepath.Join(t.TempDir(), "launcher.toml")
	write(t, name, smallest+string(bytes.Repeat([]byte("#"), maxConfigBytes)))
	if _, err := loadConfig(name); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("err = %v", err)
	}
}

func write(t *testing.T, name, data string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzConfig: whatever the bytes, the answer is a fault in its place or a configuration that show prints so
// that it means the same.
func FuzzConfig(f *testing.F) {
	f.Add(smallest)
	f.Add(full)
	f.Add("product = 3")
	f.Add("[[listen]]\n[listen.x]\n[[listen]]\na.b.c = [1,[2]]\n\"\" = { x = { y = 1 } }")
	f.Fuzz(func(t *testing.T, file string) {
		c, err := parseConfig(conf, []byte(file), false)
		if err != nil {
			_ = err.Error()
			return
		}
		again, err := parseConfig(conf, []byte(showConfig(c, func(string) bool { return true })), false)
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%v\n%+v\n%+v", err, c, again)
		}
	})
}

// A vendor ships the configuration beside the program; one in the working folder comes first.
func TestConfigBesideTheProgram(t *testing.T) {
	shipped, here := t.TempDir(), t.TempDir()
	t.Chdir(here)
	if _, err := findConfig("acme-agent", shipped); !errors.Is(err, errNoConfig) || !strings.Contains(err.Error(), shipped) {
		t.Errorf("without any: %v", err)
	}
	for _, place := range []struct{ file, want string }{
		{filepath.Join(shipped, configBase), filepath.Join(shipped, configBase)}, {configBase, configBase},
	} {
		if err := os.WriteFile(place.file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := findConfig("acme-agent", shipped); err != nil || got != place.want {
			t.Errorf("found %q, %v; want %q", got, err, place.want)
		}
	}
	if got := programFolder(os.Args[:1]); got != filepath.Dir(os.Args[0]) {
		t.Errorf("%s looks in %s", os.Args[0], got)
	}
}
