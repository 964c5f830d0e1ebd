package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The scripts in testdata/script show what people type, what is printed, and the exit code. `launcher` and `release`
// are the built programs; what scripts can say beside testscript's own commands is in the table.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup:              setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    does(2, (*play).exits),    // CODE PROGRAM ARGS...: runs it and demands that exit code
			"until":    does(2, (*play).until),    // REGEXP PROGRAM ARGS...: runs it until what it prints matches
			"curl":     does(1, (*play).curl),     // URL: prints the page
			"program":  does(1, (*play).program),  // VERSION [FAULT]: an example, here, as acme-agent_VERSION_OS_ARCH
			"$":        does(1, (*play).typed),    // COMMAND: runs the next command of the README's ten minutes, and prints what stands there
			"readme":   does(2, (*play).block),    // LANGUAGE FILE: the README's first block of that
			"done":     does(0, (*play).done),     // no command of the README is left
			"stage":    does(0, (*play).stage),    // [empty]: a product, its repository, and a launcher that serves 1.0.0; goes to their folder
			"publish":  does(1, (*play).publish),  // VERSION: in the stage's repository, made of a good example
			"launch":   does(0, (*play).launch),   // starts the stage's launcher and waits until it answers
			"crash":    does(0, (*play).crash),    // ends it without a warning
			"quit":     does(0, (*play).quit),     // stops it in order
			"serving":  does(1, (*play).serving),  // VERSION: waits until it is active and no update is under way
			"clients":  does(0, (*play).clients),  // from here to unmoved, clients get the same answer from the same process
			"unmoved":  does(0, (*play).unmoved),  // and every one of them
			"edit":     does(3, (*play).edit),     // FILE OLD NEW: once, in a file
			"damage":   does(1, (*play).damage),   // FILE: flips one bit of it
			"artifact": does(2, (*play).artifact), // NAME VERSION: $NAME is the published file of a good example
			"slots":    does(0, (*play).slots),    // $NEWER and $OLDER are the journal's files
			"phase":    does(1, (*play).phase),    // NAME: in the newer slot, in a record that is right otherwise
			"digest":   does(2, (*play).digest),   // NAME FOLDER: $NAME is a digest of all that is in it
			"same":     does(2, (*play).same),     // A B: two texts are equal
			"stranger": does(0, (*play).stranger), // $STRANGER is an address where another program listens
			"needs":    does(1, (*play).needs),    // root or PROGRAM: the script is skipped without; under CI=true it fails
		},
	})
}

// play is one of them at work: its test, its interpreter, and its stage, once it has one.
type play struct {
	testing.TB
	ts  *testscript.TestScript
	s   *stage.Stage
	end func() // of the clients
	doc *readme
}

type playKey struct{}

func setupScript(env *testscript.Env) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("testscript runs in something else than a test")
	}
	env.Values[playKey{}] = &play{TB: tb}
	env.Setenv("PROGRAMS", programs.Dir)
	env.Setenv("PATH", programs.Dir+string(os.PathListSeparator)+env.Getenv("PATH"))
	for _, name := range []string{"HOME", "GOCACHE", "GOPATH", "GOMODCACHE", "GOFLAGS", "GOPROXY"} { // for go build
		if v, ok := os.LookupEnv(name); ok {
			env.Setenv(name, v)
		}
	}
	env.Setenv("PLATFORM", runtime.GOOS+"/"+runtime.GOARCH)
	env.Setenv("NAMED", runtime.GOOS+"_"+runtime.GOARCH) // as release add finds the platform in a file's name
	root, err := filepath.Abs("..")
	env.Setenv("ROOT", root)
	for _, name := range []string{"SERVICE", "REPOSITORY"} {
		address, freeErr := stage.FreeAddress()
		err = errors.Join(err, freeErr)
		env.Setenv(name, address)
	}
	return err
}

// does is a command with at least so many arguments.
func does(least int, f func(*play, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least {
			ts.Fatalf("wants %d arguments, and no !", least)
		}
		x := ts.Value(playKey{}).(*play)
		x.ts = ts
		f(x, args)
		if x.Failed() {
			ts.Fatalf("see above")
		}
	}
}

// run runs a program, or curl, and returns its exit code. What it printed is there for the commands that follow.
func (x *play) run(args []string) int {
	if args[0] == "curl" {
		x.curl(args[1:])
		return 0
	}
	err := x.ts.Exec(args[0], args[1:]...)
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	x.ts.Check(err)
	return 0
}

// exits also demands of --json that it tells the same, in one object, and that stderr is empty.
func (x *play) exits(args []string) {
	want, err := strconv.Atoi(args[0])
	x.ts.Check(err)
	if got := x.run(args[1:]); got != want {
		x.ts.Fatalf("exit code %d, want %d", got, want)
	}
	for _, arg := range args {
		if arg == "--json" {
			x.ts.Check(toldInJSON(x.ts.ReadFile("stdout"), want))
			if text := x.ts.ReadFile("stderr"); text != "" {
				x.ts.Fatalf("with --json there is text on stderr")
			}
		}
	}
}

// toldInJSON says what is wrong with a text that is to be one JSON object about the exit code, after any number of
// events, each on a line of its own.
func toldInJSON(text string, code int) error {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		var r reply
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		if last := i == len(lines)-1; last != (r.Schema == 1) {
			return fmt.Errorf("line %d of %d has schema %d", i+1, len(lines), r.Schema)
		} else if last && (r.Exit.Code != code || r.Exit.Reason == "") {
			return fmt.Errorf("it says exit %+v, and it is %d", r.Exit, code)
		}
	}
	return nil
}

func (x *play) until(args []string) {
	want, err := regexp.Compile("(?m)" + args[0])
	x.ts.Check(err)
	eventually(x, args[0], func() bool {
		if args[1] == "curl" {
			_, text, err := fetch(x.Context(), args[2])
			return err == nil && want.MatchString(text)
		}
		x.run(args[1:])
		return want.MatchString(x.ts.ReadFile("stdout") + x.ts.ReadFile("stderr"))
	})
}

func (x *play) curl(args []string) {
	status, text, err := fetch(x.Context(), args[0])
	x.ts.Check(err)
	if !strings.HasPrefix(status, strconv.Itoa(http.StatusOK)) {
		x.ts.Fatalf("%s: %s", args[0], status)
	}
	fmt.Fprint(x.ts.Stdout(), text)
}

func (x *play) program(args []string) {
	fault := ""
	if len(args) > 1 {
		fault = args[1]
	}
	from, err := os.ReadFile(example(x, args[0], fault))
	x.ts.Check(err)
	name := fmt.Sprintf("acme-agent_%s_%s_%s", args[0], runtime.GOOS, runtime.GOARCH)
	x.ts.Check(os.WriteFile(x.ts.MkAbs(name), from, 0o755))
}
