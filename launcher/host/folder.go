package host

import (
	"fmt"
)

// CheckFolder returns nil if nobody but the system and its administrators can change the folder, replace
// it or put something in its place: every component of its path is looked at. The error says which one is
// wrong and wraps ErrUnsafe.
func CheckFolder(dir string) error { return checkFolder(dir) }

// StateHint is what to write for the state folder on this system.
const StateHint = stateHint

// MakeFolder makes a folder that only the system and its administrators can use, with the folders above it.
// A folder that is there already and belongs to them is set right; one that belongs to somebody else is
// refused, since nobody knows what is in it.
func MakeFolder(dir string) (made bool, err error) { return makeFolder(dir) }

// component is one folder on the way from the root of a volume, as Windows describes it.
type component struct {
	path string
	//lint:ignore U1000 used on Windows alone
	folder    bool // and not a file
	reparse   bool // a junction, a symbolic link or another trick
	owner     string
	noList    bool // no access list at all: everybody may do everything
	protected bool // takes nothing from above
	grants    []grant
}

// grant is one entry of an access list that allows something here.
type grant struct {
	sid  string
	mask uint32
}

// trusted are the accounts that may do everything in any case. Whoever is one of them needs no hole.
var trusted = map[string]string{
	"S-1-5-18":     "SYSTEM",
	"S-1-5-32-544": "Administrators",
	"S-1-3-4":      "the owner, who is one of these",
	"S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464": "TrustedInstaller",
}

// Rights, from winnt.h.
const (
	rightWriteData   = 0x2
	rightAppend      = 0x4
	rightWriteEA     = 0x10
	rightDeleteChild = 0x40
	rightWriteAttr   = 0x100
	rightDelete      = 0x10000
	rightWriteDAC    = 0x40000
	rightWriteOwner  = 0x80000
	rightGenericAll  = 0x10000000
	rightGenericWr   = 0x40000000

	// replaces lets its holder put another folder in the place of this one or of one in it. Making new
	// folders is not among them: everybody may do that in C:\ and in ProgramData.
	replaces = rightDeleteChild | rightDelete | rightWriteDAC | rightWriteOwner | rightGenericAll
	changes  = replaces | rightWriteData | rightAppend | rightWriteEA | rightWriteAttr | rightGenericWr
)

// judge decides about a folder, the last of the chain, and the way to it.
func judge(chain []component) error {
	for i, c := range chain {
		last := i == len(chain)-1
		forbidden, what := uint32(replaces), "replace what is in it"
		if last {
			forbidden, what = changes, "write to it"
		}
		switch {
		case c.reparse:
			return fmt.Errorf("%w: %s is a link to somewhere else: use the real path", ErrUnsafe, c.path)
		case trusted[c.owner] == "":
			return fmt.Errorf("%w: %s belongs to %s, not to SYSTEM or Administrators: move it away, or give it to Administrators if all in it is yours", ErrUnsafe, c.path, c.owner)
		case c.noList:
			return fmt.Errorf("%w: %s has no access list, so everybody may %s", ErrUnsafe, c.path, what)
		case last && !c.protected:
			return fmt.Errorf("%w: %s takes rights from the folder above it: run install, which protects it", ErrUnsafe, c.path)
		}
		for _, g := range c.grants {
			if trusted[g.sid] == "" && g.mask&forbidden != 0 {
				return fmt.Errorf("%w: in %s the account %s may %s (rights %#x): take that right away", ErrUnsafe, c.path, g.sid, what, g.mask)
			}
		}
	}
	return nil
}
