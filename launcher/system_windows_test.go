package main

import (
	"os"
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
