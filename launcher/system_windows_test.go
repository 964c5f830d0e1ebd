package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// writePrivate writes a file that nobody else can read.
func writePrivate(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	setList(t, name, "")
}

// writeOpen writes one that everybody can read.
func writeOpen(t *testing.T, name, text string) {
	t.Helper()
	write(t, name, text)
	setList(t, name, "(A;;FR;;;WD)")
}

// setList gives a file an access list of SYSTEM and our own account, and what is added, and nothing of its folder's.
// SetNamedSecurityInfo would add the folder's under Wine.
func setList(t *testing.T, name, more string) {
	t.Helper()
	who, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;FA;;;SY)(A;;FA;;;" + who.User.Sid.String() + ")" + more)
	if err != nil {
		t.Fatal(err)
	}
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(text, windows.WRITE_DAC, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(h)
	if err := windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, sd); err != nil {
		t.Fatal(err)
	}
}

// closeHint is what is advised about a file that others can read.
func closeHint(name string) string { return `icacls "` + name + `" /inheritance:r` }

// native is a text with paths as this system has them: on a drive, and the operators' socket is a pipe.
func native(text string) string { return drives.Replace(text) }

var drives = strings.NewReplacer(
	"/run/acme/control.sock", `\\\\.\\pipe\\acme-control`, // in quotes of TOML
	"/etc/", "C:/etc/", "/mnt/", "C:/mnt/", "/var/", "C:/var/", "/srv/", "C:/srv/", "/run/", "C:/run/", "/x/", "C:/x/",
)

// path is a native path as the configuration makes one of a relative one.
func path(p string) string { return filepath.FromSlash(native(p)) }

// badHere are configurations that are wrong on Windows alone, or in other words than elsewhere.
var badHere = []badConfig{
	{"socket", `/run/acme/control.sock`, `C:/control.sock`, `"C:/control.sock"`, "not the name of a pipe", `\\.\pipe\`},
	{"long pipe", `acme-control`, strings.Repeat("p", 256), `"\\\\.\\pipe\\` + strings.Repeat("p", 256) + `"`, "at most 256", `\\.\pipe\`},
	{"mirror without a drive", `"/mnt/releases"`, `"/releases"`, `"/releases"`, "nor an absolute path", "absolute path"},
}

// A share is an absolute path here.
func TestConfigMirrorOnAShare(t *testing.T) {
	for _, share := range []string{`'\\nas\releases'`, `"file://nas/releases"`} {
		if _, err := parseConfig(conf, []byte(strings.Replace(full, native(`"/mnt/releases"`), share, 1)), false); err != nil {
			t.Errorf("%s: %v", share, err)
		}
	}
}

// What only Unix has is refused before the service starts, and not when it opens its sockets or its payload.
func TestConfigOfUnix(t *testing.T) {
	name := filepath.Join(t.TempDir(), "launcher.toml")
	file := smallest + "[payload]\nkind = \"activation\"\n[[listen]]\nname = \"http\"\naddress = \"unix:C:/http.sock\"\n"
	write(t, name, file)
	c, err := loadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	err = c.checkMachine()
	checkFault(t, file, err, `"activation"`, "payload.kind: ", `"plain"`)
	checkFault(t, file, err, `"unix:C:/http.sock"`, "listen[0].address: unix sockets", "host:port")
}
