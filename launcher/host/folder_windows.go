package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/windows"
)

const stateHint = `dir = 'C:\ProgramData\acme-agent'`

// protectedList gives the folder to SYSTEM and Administrators, with all in it, and takes nothing from
// above. The owner is Administrators: an elevated user cannot give it to SYSTEM without another privilege.
const protectedList = "O:BAG:SYD:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"

func checkFolder(dir string) error {
	chain, err := components(dir)
	if err != nil {
		return err
	}
	if err := judge(chain); err != nil {
		return err
	}
	return checkLinks(dir)
}

// components describes every folder from the root of the volume down to dir.
func components(dir string) ([]component, error) {
	dir = filepath.Clean(dir)
	volume := filepath.VolumeName(dir)
	if len(volume) != 2 || volume[1] != ':' {
		return nil, fmt.Errorf("%w: %s is not on a drive of this machine", ErrUnsafe, dir)
	}
	chain := []component{}
	at := volume + `\`
	for _, part := range append([]string{""}, strings.Split(strings.Trim(dir[len(volume):], `\`), `\`)...) {
		at = filepath.Join(at, part)
		c, err := describe(at)
		if err == nil && !c.folder {
			err = fmt.Errorf("%w: %s is not a folder", ErrUnsafe, at)
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	return chain, nil
}

// describe looks at the folder or file itself, not at what a link in its place points to.
func describe(path string) (component, error) {
	c := component{path: path}
	text, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return c, err
	}
	h, err := windows.CreateFile(text, windows.READ_CONTROL|windows.FILE_READ_ATTRIBUTES,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return c, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer windows.CloseHandle(h)
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &info); err != nil {
		return c, fmt.Errorf("look at %s: %w", path, err)
	}
	c.folder = info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY != 0
	c.reparse = info.FileAttributes&windows.FILE_ATTRIBUTE_REPARSE_POINT != 0
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return c, fmt.Errorf("read who may change %s: %w", path, err)
	}
	return c, c.read(sd)
}

// denies are the types of entries that take rights away: ACCESS_DENIED, with OBJECT and CALLBACK; winnt.h.
var denies = map[uint8]bool{0x1: true, 0x6: true, 0xA: true, 0xC: true}

func (c *component) read(sd *windows.SECURITY_DESCRIPTOR) error {
	owner, _, err := sd.Owner()
	if err != nil {
		return fmt.Errorf("read the owner of %s: %w", c.path, err)
	}
	c.owner = owner.String()
	control, _, err := sd.Control()
	if err != nil {
		return fmt.Errorf("read the access list of %s: %w", c.path, err)
	}
	c.protected = control&windows.SE_DACL_PROTECTED != 0
	list, _, err := sd.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && list == nil {
		c.noList = true
		return nil
	} else if err != nil {
		return fmt.Errorf("read the access list of %s: %w", c.path, err)
	}
	for i := range uint32(list.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(list, i, &ace); err != nil {
			return fmt.Errorf("read the access list of %s: %w", c.path, err)
		}
		switch {
		case ace.Header.AceFlags&windows.INHERIT_ONLY_ACE != 0: // counts further down only
			continue
		case denies[ace.Header.AceType]:
			continue
		case ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE: // with conditions; a folder of ours has none
			c.grants = append(c.grants, grant{fmt.Sprintf("of an entry of type %d", ace.Header.AceType), rightGenericAll})
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart))
		c.grants = append(c.grants, grant{sid.String(), uint32(ace.Mask)})
	}
	return nil
}

// maxLooked bounds how many files are looked at for a second name.
const maxLooked = 4096

// checkLinks refuses files of ours that have a second name, through which they could be changed from
// elsewhere, and links inside. The payload's data is its own affair.
func checkLinks(dir string) error {
	looked := 0
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path == filepath.Join(dir, "data"):
			return fs.SkipDir
		case d.Type()&(fs.ModeSymlink|fs.ModeIrregular) != 0:
			return fmt.Errorf("%w: %s is a link to somewhere else: remove it", ErrUnsafe, path)
		case d.IsDir():
			return nil
		}
		if looked++; looked > maxLooked {
			return fs.SkipAll
		}
		n, err := names(path)
		if err == nil && n > 1 {
			return fmt.Errorf("%w: %s has %d names (hard links): remove it", ErrUnsafe, path, n)
		}
		return nil // a file that is gone, or that a living launcher keeps to itself
	})
}

func names(path string) (uint32, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var info windows.ByHandleFileInformation
	err = windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info)
	return info.NumberOfLinks, err
}

func makeFolder(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, err
	}
	sd, err := windows.SecurityDescriptorFromString(protectedList)
	if err != nil {
		return false, err
	}
	text, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return false, err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	switch err := windows.CreateDirectory(text, sa); {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return false, fmt.Errorf("make %s: %w", dir, ErrPrivilege)
	case !errors.Is(err, windows.ERROR_ALREADY_EXISTS):
		return false, &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return false, protect(dir, sd)
}

// protect sets the access list of a folder that belongs to administrators already, or that is empty.
func protect(dir string, sd *windows.SECURITY_DESCRIPTOR) error {
	c, err := describe(dir)
	if err != nil {
		return err
	}
	inside, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if c.reparse || !c.folder || trusted[c.owner] == "" && len(inside) > 0 {
		return fmt.Errorf("%w: %s was made by %s and is not empty: move it away and install again", ErrUnsafe, dir, c.owner)
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return err
	}
	list, _, err := sd.DACL()
	if err != nil {
		return err
	}
	err = windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT,
		windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, owner, nil, list, nil)
	if err != nil {
		return fmt.Errorf("protect %s: %w", dir, err)
	}
	return nil
}
