package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

// A secret is refused when its access list lets others read it, and the error says who, and how that ends.
func TestCheckSecret(t *testing.T) {
	name := filepath.Join(t.TempDir(), "client.key")
	if err := CheckSecret(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	who, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	ours := "D:P(A;;FA;;;SY)(A;;FA;;;" + who.User.Sid.String() + ")"
	for list, reader := range map[string]string{
		ours: "", ours + "(A;;FR;;;WD)": "S-1-1-0", ours + "(A;;0x1;;;WD)": "S-1-1-0",
	} {
		sd, err := windows.SecurityDescriptorFromString(list)
		if err != nil {
			t.Fatal(err)
		}
		if err := setList(name, sd); err != nil {
			t.Fatal(err)
		}
		err = CheckSecret(name)
		if reader == "" && err != nil || reader != "" && (!errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), reader) || !strings.Contains(err.Error(), "icacls")) {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// setList gives a file this access list and nothing of its folder's.
func setList(name string, sd *windows.SECURITY_DESCRIPTOR) error {
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(text, windows.WRITE_DAC, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h)
	return windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, sd)
}
