package child

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/pipe"
)

func init() { roles["rights"] = rightsProgram }

// rightsProgram says what its token has.
func rightsProgram() {
	token := windows.GetCurrentProcessToken()
	groups, err := token.GetTokenGroups()
	check(err)
	for _, g := range groups.AllGroups() {
		if g.Sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) {
			fmt.Printf("administrators enabled=%v deny=%v\n", g.Attributes&windows.SE_GROUP_ENABLED != 0, g.Attributes&windows.SE_GROUP_USE_FOR_DENY_ONLY != 0)
		}
	}
	b := make([]byte, 4096)
	var n uint32
	check(windows.GetTokenInformation(token, windows.TokenPrivileges, &b[0], uint32(len(b)), &n))
	fmt.Printf("privileges %d\n", (*windows.Tokenprivileges)(unsafe.Pointer(&b[0])).PrivilegeCount)
	fmt.Println("write", os.WriteFile(filepath.Join(os.Getenv("TS_DATA"), "mine"), nil, 0o600))
	<-interrupted
}

// A restricted payload is started with a token in which Administrators counts against it only, and with at most
// one privilege left (SeChangeNotify); its twin without an account of its own has the launcher's token. Both write
// to the data folder.
func TestRestrictedAccount(t *testing.T) {
	u, err := Account("restricted", "acme-agent")
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, options(t))
	for name, tc := range map[string]struct {
		user *User
		want string
	}{
		"restricted": {u, "administrators enabled=false deny=true\nprivileges 1\nwrite <nil>"},
		"same":       {nil, "administrators enabled=true deny=false\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := program(t, Plain, "rights", "TS_DATA="+t.TempDir())
			s.User = tc.user
			if err := tc.user.Give(strings.TrimPrefix(s.Env[0], "TS_DATA=")); err != nil {
				t.Fatal(err)
			}
			p := start(t, h, s)
			says(t, p, "write <nil>")
			out := strings.ReplaceAll(p.Tail(4096), "\r", "")
			if !strings.Contains(out, tc.want) || name == "same" && strings.Contains(out, "privileges 1\n") {
				t.Errorf("its token has\n%swant\n%s", out, tc.want)
			}
			if exit := p.Stop(soon(t), patience); exit.Code != 0 {
				t.Errorf("exit %s: CTRL_C does not reach it", exit)
			}
		})
	}
}

// An account is either logged on as what it is called, or refused: never the launcher's own by mistake. Wine's
// LogonUser says yes to every name and returns no token.
func TestAccountIsWhoItIsCalled(t *testing.T) {
	for name, sid := range map[string]string{
		"LocalService": "S-1-5-19", `NT AUTHORITY\NETWORK SERVICE`: "S-1-5-20", `NT SERVICE\acme-agent`: serviceSID("acme-agent"),
	} {
		if err := CheckAccount(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		u, err := Account(name, "acme-agent")
		if err == nil {
			who, err := u.token.GetTokenUser()
			if err != nil || who.User.Sid.String() != sid || u.sid.String() != sid {
				t.Errorf("%s is logged on as %v, %v", name, who, err)
			}
			continue
		}
		if !errors.Is(err, ErrAccount) || !strings.Contains(err.Error(), "log it on") {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(err)
	}
	for _, name := range []string{
		"acme", "Administrators", `NT SERVICE\`, `NT AUTHORITY\SYSTEM`, "", `NT SERVICE\a\b`, `BUILTIN\Administrators`, `ACME\`, `\acme`, `ACME\a\b`,
		"ACME\\a\nb", `ACME\svc$`, `.\.\acme`, `ACME\a@b`,
	} {
		if _, err := Account(name, "acme-agent"); !errors.Is(err, ErrAccount) || CheckAccount(name) == nil {
			t.Errorf("%q is taken: %v", name, err)
		}
	}
}

// The SID of a service is a function of its name: what `sc showsid` prints for these on any Windows.
func TestServiceSID(t *testing.T) {
	for name, sid := range map[string]string{
		"TrustedInstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
		"MpsSvc":           "S-1-5-80-3088073201-1464728630-1879813800-1107566885-823218052",
	} {
		if got := serviceSID(name); got != sid {
			t.Errorf("%s: %s, want %s", name, got, sid)
		}
	}
}

// A payload with the SDK works with a restricted token: the wire, the inherited socket, the orders.
func TestRestrictedService(t *testing.T) {
	u, err := Account("restricted", "acme-agent")
	if err != nil {
		t.Fatal(err)
	}
	h, sock := open(t, options(t)), public(t)
	s := program(t, SDK, "service")
	s.User, s.Listeners = u, []Listener{{Name: sock.Name(), Conn: sock.RawConn()}}
	p := start(t, h, s)
	if _, err := p.Ready(soon(t)); err != nil {
		t.Fatal(err)
	}
	must(t, p.Accept)
	alone(t, sock, s.Number)
	if exit := p.Stop(soon(t), patience); exit.At.IsZero() {
		t.Errorf("it does not end: %s", exit)
	}
}

// Whoever may connect to the wire may not make an instance of its pipe: payloads would take him for the launcher.
func TestNobodyPosesOnTheWire(t *testing.T) {
	sd, err := windows.SecurityDescriptorFromString(pipeAccess)
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	const createPipeInstance, generic = 0x4, windows.GENERIC_WRITE | windows.GENERIC_ALL
	others := 0
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			t.Fatal(err)
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)).String()
		if sid == "S-1-5-18" || sid == "S-1-5-32-544" || sid == "S-1-3-4" { // SYSTEM, Administrators, the owner
			continue
		}
		others++
		if ace.Mask&(createPipeInstance|generic) != 0 {
			t.Errorf("%s has %#x", sid, ace.Mask)
		}
	}
	if others != 2 {
		t.Errorf("%d accounts beside the launcher's, want 2", others)
	}
}

// The wire's name follows from the state folder. A local user who was first with one that he can make keeps no
// administrator's launcher from starting, and no payload dials him.
func TestNobodySquatsTheWire(t *testing.T) {
	if !pipe.Administrator() {
		t.Skip("not an administrator: any user can make the name")
	}
	dir := t.TempDir()
	protected := WireAddress(dir)
	plain := strings.Replace(protected, `ProtectedPrefix\Administrators\`, "", 1)
	if plain == protected {
		t.Fatalf("anybody can make %s", protected)
	}
	squatter, err := winio.ListenPipe(plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	h, err := New(Options{Disk: durable.OS(), Dir: filepath.Join(dir, "run"), Wire: protected, Output: filepath.Join(dir, "log")})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
}
