package host

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const users = "S-1-5-32-545"

// way is the path to a state folder as Windows ships it and install makes it.
func way() []component {
	return []component{
		{path: `C:\`, owner: "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464", grants: []grant{{users, 0x1200a9}, {"S-1-5-11", rightAppend}, {"S-1-5-18", 0x1f01ff}}},
		{path: `C:\ProgramData`, owner: "S-1-5-18", protected: true, grants: []grant{{users, 0x1200a9}, {users, rightWriteData | rightAppend | rightWriteEA | rightWriteAttr}}},
		{path: `C:\ProgramData\acme`, owner: "S-1-5-32-544", protected: true, grants: []grant{{"S-1-5-18", 0x1f01ff}, {"S-1-5-32-544", 0x1f01ff}}},
	}
}

func TestJudgeNamesTheWrongComponent(t *testing.T) {
	if err := judge(way()); err != nil {
		t.Fatalf("the folder that install makes: %v", err)
	}
	for name, tc := range map[string]struct {
		change func(c []component)
		says   string
	}{
		"junction in the way":       {func(c []component) { c[1].reparse = true }, `C:\ProgramData is a link`},
		"made by a user":            {func(c []component) { c[2].owner = "S-1-5-21-1-2-3-1001" }, "belongs to S-1-5-21-1-2-3-1001"},
		"parent of a user":          {func(c []component) { c[1].owner = "S-1-5-21-1-2-3-1001" }, `C:\ProgramData belongs`},
		"inherits":                  {func(c []component) { c[2].protected = false }, "takes rights from the folder above"},
		"no list":                   {func(c []component) { c[2].noList = true }, "no access list"},
		"users may write":           {func(c []component) { c[2].grants = append(c[2].grants, grant{users, rightWriteData}) }, users},
		"users may write by 'all'":  {func(c []component) { c[2].grants = append(c[2].grants, grant{"S-1-1-0", rightGenericAll}) }, "S-1-1-0"},
		"users may delete children": {func(c []component) { c[1].grants = append(c[1].grants, grant{users, rightDeleteChild}) }, `in C:\ProgramData the account`},
	} {
		c := way()
		tc.change(c)
		err := judge(c)
		if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What others can change is wrong, unless --unprotected accepted it; what else fails is wrong all the same.
func TestExposedFolderIsAcceptedByOrder(t *testing.T) {
	unsafe, other := fmt.Errorf("folder: %w", ErrUnsafe), errors.New("no such disk")
	for _, tc := range []struct {
		unprotected bool
		err         error
		want        Result
	}{{false, unsafe, Failed}, {true, unsafe, Warned}, {true, other, Failed}} {
		if got := (Spec{Unprotected: tc.unprotected}).exposed(Step{Name: "folder"}, tc.err); got.Result != tc.want || got.Err == "" {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}
