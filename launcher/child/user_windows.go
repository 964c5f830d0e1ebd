package child

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

const accountHint = `user = "LocalService", "NetworkService", 'NT SERVICE\NAME', 'DOMAIN\NAME', '.\NAME' or "restricted"`

// logon is an account that is logged on for as long as the launcher runs.
type logon struct {
	token windows.Token
	sid   *windows.SID // what folders are given to
	keyed *keyed       // nil: an account without a password
}

// wellKnown are the accounts of Windows itself that a payload may have, with their SIDs.
var wellKnown = map[string]string{
	"localservice": "S-1-5-19", "local service": "S-1-5-19", "networkservice": "S-1-5-20", "network service": "S-1-5-20",
}

// named takes the name of an account apart. Of one that has a password, install has found out the SID.
func named(name string) (domain, user, sid string, err error) {
	domain, user, found := strings.Cut(name, `\`)
	if !found {
		domain, user = "NT AUTHORITY", name
	}
	switch {
	case strings.EqualFold(name, restrictedName):
		return "", restrictedName, "", nil
	case strings.EqualFold(domain, "NT AUTHORITY") && wellKnown[strings.ToLower(user)] != "":
		return "NT AUTHORITY", strings.ReplaceAll(user, " ", ""), wellKnown[strings.ToLower(user)], nil
	case strings.EqualFold(domain, "NT SERVICE") && user != "" && !strings.ContainsAny(user, `/\`):
		return "NT SERVICE", user, serviceSID(user), nil
	case strings.HasSuffix(user, "$"):
		return "", "", "", errors.New("a managed service account or a computer cannot be used; " + accountHint)
	case found && accountForm(domain) && accountForm(user) && !ofWindows[strings.ToUpper(domain)]:
		return domain, user, "", nil
	}
	return "", "", "", errors.New("not an account that a payload can have; " + accountHint)
}

// ofWindows are domains in which nobody has a password.
var ofWindows = map[string]bool{"NT AUTHORITY": true, "NT SERVICE": true, "BUILTIN": true, "NT VIRTUAL MACHINE": true, "IIS APPPOOL": true}

// accountForm says whether a name can be that of a user or a domain: no control characters, and none of those that
// Windows refuses in them ("User Name Formats", lmaccess.h).
func accountForm(name string) bool {
	return name != "" && len(name) <= 256 && strings.TrimSpace(name) == name && !strings.ContainsAny(name, `"/\[]:;|=,+*?<>@`) &&
		!strings.ContainsFunc(name, unicode.IsControl)
}

func checkAccount(name string) error {
	_, _, _, err := named(name)
	return err
}

func findAccount(name, service string) (*User, error) {
	domain, user, sid, err := named(name)
	if err != nil {
		return nil, err
	}
	if user == restrictedName {
		return restrictedAccount(service)
	}
	if sid == "" {
		return newKeyed(realLSA(), Password{name, service})
	}
	return logOn(domain, user, sid)
}

var (
	advapi                = windows.NewLazySystemDLL("advapi32.dll")
	logonUser             = advapi.NewProc("LogonUserW")
	createRestrictedToken = advapi.NewProc("CreateRestrictedToken")
)

// Values of LogonUser, winbase.h.
const (
	logonService    = 5 // LOGON32_LOGON_SERVICE
	providerDefault = 0
	providerVirtual = 4 // LOGON32_PROVIDER_VIRTUAL: NT SERVICE\NAME, of a service that is installed
)

// logOn logs an account without a password on.
func logOn(domain, user, sid string) (*User, error) {
	provider := uintptr(providerDefault)
	if domain == "NT SERVICE" {
		provider = providerVirtual
	}
	token, err := callLogonUser(domain, user, nil, provider)
	if err != nil {
		return nil, fmt.Errorf("log it on: %w", err)
	}
	if err := belongs(token, sid); err != nil {
		return nil, err
	}
	want, err := windows.StringToSid(sid)
	return &User{logon: logon{token: token, sid: want}}, err
}

func callLogonUser(domain, user string, password *uint16, provider uintptr) (token windows.Token, err error) {
	d, err := windows.UTF16PtrFromString(domain)
	if err != nil {
		return 0, err
	}
	n, err := windows.UTF16PtrFromString(user)
	if err != nil {
		return 0, err
	}
	ok, _, err := logonUser.Call(uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(d)), uintptr(unsafe.Pointer(password)), logonService, provider, uintptr(unsafe.Pointer(&token)))
	if ok == 0 {
		return 0, err
	}
	return token, nil
}

// belongs looks at whose token came back, and closes that of somebody else: Wine says yes to every name and returns no
// token, and a payload must never run with our own rights by mistake.
func belongs(token windows.Token, sid string) error {
	who, err := token.GetTokenUser()
	if err != nil {
		return fmt.Errorf("log it on: what came back is no account: %w", err)
	}
	if who.User.Sid.String() != sid {
		_ = token.Close() // somebody else's
		return fmt.Errorf("log it on: %s came back and not %s", who.User.Sid, sid)
	}
	return nil
}

// keyed is the logon of an account with a password.
type keyed struct {
	lsa      lsa
	password Password
	mu       sync.Mutex // guards the token of the User, and tried
	tried    string     // since when that password is kept with which the last logon was tried
}

func newKeyed(l lsa, p Password) (*User, error) {
	token, k, err := l.enter(p)
	if err != nil {
		return nil, err
	}
	sid, err := windows.StringToSid(k.sid)
	return &User{logon: logon{token: token, sid: sid, keyed: &keyed{lsa: l, password: p, tried: k.since}}}, err
}

// renew logs the account on again if install has kept another password since. Until that succeeds the logon before
// it goes on: a payload that cannot be started is worse than one with an old logon. A token that is replaced stays
// open, since the health checks of living processes have it.
func (u *User) renew() error {
	if u == nil || u.keyed == nil {
		return nil
	}
	key := u.keyed
	key.mu.Lock()
	defer key.mu.Unlock()
	k, err := key.lsa.kept(key.password)
	clear(k.password)
	if err != nil || k.since == key.tried {
		return err
	}
	token, k, err := key.lsa.enter(key.password)
	key.tried = k.since
	switch {
	case err != nil:
		return err
	case k.sid != u.sid.String():
		_ = token.Close() // unused
		return errors.New("the account of this name is another one now, to which nothing was given: start the launcher again")
	}
	u.token = token
	return nil
}

// restrictedName asks for the launcher's own account with nearly all taken away.
const restrictedName = "restricted"

// writeRestricted makes the restricting SIDs count for writing only: WRITE_RESTRICTED, winnt.h.
const writeRestricted = 0x8

// restrictedAccount is the launcher's own token without privileges, in which Administrators only counts where
// it is denied something, and with which can be written only where the service's own SID may: what Windows
// does for a service of SID type "restricted". It needs no logon, but reads what the launcher can read.
func restrictedAccount(service string) (*User, error) {
	var own, token windows.Token
	if err := windows.OpenProcessToken(windows.CurrentProcess(), windows.TOKEN_DUPLICATE|windows.TOKEN_QUERY|windows.TOKEN_ASSIGN_PRIMARY|windows.TOKEN_ADJUST_DEFAULT, &own); err != nil {
		return nil, fmt.Errorf("open our own token: %w", err)
	}
	defer own.Close()
	var sids []windows.SIDAndAttributes
	for _, text := range []string{"S-1-5-32-544", serviceSID(service), "S-1-1-0", "S-1-5-33"} { // Administrators; Everyone, WRITE RESTRICTED
		sid, err := windows.StringToSid(text)
		if err != nil {
			return nil, err
		}
		sids = append(sids, windows.SIDAndAttributes{Sid: sid})
	}
	drop, err := privileges(own)
	if err != nil {
		return nil, fmt.Errorf("read our own privileges: %w", err)
	}
	deny, restrict := sids[:1], sids[1:]
	ok, _, err := createRestrictedToken.Call(uintptr(own), writeRestricted,
		uintptr(len(deny)), uintptr(unsafe.Pointer(&deny[0])),
		uintptr(len(drop)), uintptr(unsafe.Pointer(unsafe.SliceData(drop))),
		uintptr(len(restrict)), uintptr(unsafe.Pointer(&restrict[0])), uintptr(unsafe.Pointer(&token)))
	if ok == 0 {
		return nil, fmt.Errorf("restrict our own token: %w", err)
	}
	u := &User{logon: logon{token: token, sid: restrict[0].Sid}}
	if err := u.ownObjects(own); err != nil {
		_ = token.Close() // unused
		return nil, err
	}
	return u, nil
}

// privileges are what a token has and a payload has no use for: all but SeChangeNotifyPrivilege, without which
// every folder on the way to a file would be asked. (DISABLE_MAX_PRIVILEGE means the same; Wine ignores it.)
func privileges(token windows.Token) ([]windows.LUIDAndAttributes, error) {
	name, err := windows.UTF16PtrFromString("SeChangeNotifyPrivilege")
	if err != nil {
		return nil, err
	}
	var keep windows.LUID
	if err := windows.LookupPrivilegeValue(nil, name, &keep); err != nil {
		return nil, err
	}
	b := make([]byte, 4<<10) // there are fewer than 64, with 12 bytes each
	var n uint32
	if err := windows.GetTokenInformation(token, windows.TokenPrivileges, &b[0], uint32(len(b)), &n); err != nil {
		return nil, err
	}
	all := slices.Clone((*windows.Tokenprivileges)(unsafe.Pointer(&b[0])).AllPrivileges())
	return slices.DeleteFunc(all, func(p windows.LUIDAndAttributes) bool { return p.Luid == keep }), nil
}

// ownObjects lets a restricted process open what it made itself, its threads for one: to whom such objects
// belong by default is a part of the token.
func (u *User) ownObjects(own windows.Token) error {
	who, err := own.GetTokenUser()
	if err != nil {
		return fmt.Errorf("read our own token: %w", err)
	}
	list, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{
		allow(who.User.Sid, windows.GENERIC_ALL, windows.NO_INHERITANCE), allow(u.sid, windows.GENERIC_ALL, windows.NO_INHERITANCE),
	}, nil)
	if err != nil {
		return fmt.Errorf("list who may use the objects of a payload: %w", err)
	}
	if err := windows.SetTokenInformation(u.token, windows.TokenDefaultDacl, (*byte)(unsafe.Pointer(&list)), uint32(unsafe.Sizeof(list))); err != nil {
		return fmt.Errorf("let a payload use its own objects: %w", err)
	}
	return nil
}

// serviceSID is the SID of NT SERVICE\name, which exists whether or not the service does: S-1-5-80 and the
// SHA-1 of the name in capitals, in UTF-16 (what `sc showsid` prints).
func serviceSID(name string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(strings.ToUpper(name))) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	sum := sha1.Sum(b)
	text := "S-1-5-80"
	for part := range slices.Chunk(sum[:], 4) {
		text += fmt.Sprintf("-%d", binary.LittleEndian.Uint32(part))
	}
	return text
}

// Rights to a folder and all in it, winnt.h.
const (
	readAndRun = windows.FILE_GENERIC_READ | windows.FILE_GENERIC_EXECUTE
	modify     = readAndRun | windows.FILE_GENERIC_WRITE | windows.DELETE
)

func (u *User) give(dir string) error { return u.grant(dir, modify) }
func (u *User) show(dir string) error { return u.grant(dir, readAndRun) }

// grant adds one entry to the access list of a folder, which what is in it inherits.
func (u *User) grant(dir string, mask windows.ACCESS_MASK) error {
	sd, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("read who may use %s: %w", dir, err)
	}
	before, _, err := sd.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return fmt.Errorf("read who may use %s: %w", dir, err)
	}
	list, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{allow(u.sid, mask, windows.SUB_CONTAINERS_AND_OBJECTS_INHERIT)}, before)
	if err != nil {
		return fmt.Errorf("add %s to who may use %s: %w", u.sid, dir, err)
	}
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		return fmt.Errorf("let %s use %s: %w", u.sid, dir, err)
	}
	return nil
}

func allow(sid *windows.SID, mask windows.ACCESS_MASK, inherit uint32) windows.EXPLICIT_ACCESS {
	return windows.EXPLICIT_ACCESS{
		AccessPermissions: mask, AccessMode: windows.SET_ACCESS, Inheritance: inherit,
		Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeType: windows.TRUSTEE_IS_UNKNOWN, TrusteeValue: windows.TrusteeValueFromSID(sid)},
	}
}

// open has nothing to do: nobody opens standard output again by a name here.
func (u *User) open(*os.File) error { return nil }

func (u *User) attr() *syscall.SysProcAttr {
	if u.keyed != nil {
		u.keyed.mu.Lock()
		defer u.keyed.mu.Unlock()
	}
	return &syscall.SysProcAttr{Token: syscall.Token(u.token)}
}
