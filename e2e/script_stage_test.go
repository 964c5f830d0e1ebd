package e2e

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// The commands of scripts that are about a stage.

func (x *play) stage(args []string) {
	if len(args) > 0 {
		x.s = staged(x, quick(nil))
	} else {
		x.s = launched(x, quick(nil))
	}
	x.ts.Check(x.ts.Chdir(x.s.Home))
	x.ts.Setenv("STAGE", x.s.Home)
	x.ts.Setenv("STATE", x.s.State())
	x.ts.Setenv("SERVICE", x.s.Listen)
	x.ts.Setenv("REPOSITORY", strings.TrimPrefix(x.s.URL, "http://"))
}

func (x *play) publish(args []string) { publish(x, x.s, args[0], example(x, args[0], "")) }
func (x *play) launch([]string)       { launch(x, x.s) }
func (x *play) crash([]string)        { kill(x, x.s) }
func (x *play) quit([]string)         { x.ts.Check(x.s.Quit()) }
func (x *play) serving(args []string) { serving(x, x.s, args[0]) }
func (x *play) damage(args []string)  { spoil(x, x.ts.MkAbs(args[0])) }
func (x *play) phase(args []string)   { forge(x, x.s, args[0]) }
func (x *play) clients([]string)      { x.end = clients(x, x.s) }
func (x *play) unmoved([]string)      { x.end() }

func (x *play) edit(args []string) {
	name := x.ts.MkAbs(args[0])
	text := x.ts.ReadFile(name)
	if !strings.Contains(text, args[1]) {
		x.ts.Fatalf("%q is not in it", args[1])
	}
	x.ts.Check(os.WriteFile(name, []byte(strings.Replace(text, args[1], args[2], 1)), 0o600))
}

func (x *play) digest(args []string) { x.ts.Setenv(args[0], tree(x, x.ts.MkAbs(args[1]))) }

func (x *play) same(args []string) {
	if args[0] != args[1] {
		x.ts.Fatalf("%q is not %q", args[0], args[1])
	}
}

func (x *play) artifact(args []string) {
	b, err := os.ReadFile(example(x, args[1], ""))
	x.ts.Check(err)
	x.ts.Setenv(args[0], filepath.Join(x.s.Repo(), "artifacts", fmt.Sprintf("%x", sha256.Sum256(b))))
}

func (x *play) slots([]string) {
	names := slots(x, x.s)
	x.ts.Setenv("NEWER", names[0])
	x.ts.Setenv("OLDER", names[1])
}

func (x *play) stranger([]string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	x.ts.Check(err)
	x.ts.Defer(func() { _ = ln.Close() }) // nobody asked it anything
	x.ts.Setenv("STRANGER", ln.Addr().String())
}

func (x *play) needs(args []string) {
	if args[0] != "root" {
		need(x, args[0])
	} else if os.Geteuid() != 0 && os.Getenv("CI") == "true" {
		x.Fatal("the tests of CI run as root")
	} else if os.Geteuid() != 0 {
		x.Skip("only root can do this")
	}
}
