package self

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"
	"github.com/minio/selfupdate"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// The launchers of the tests: what is installed, and what is offered.
var (
	oldBytes = []byte("the launcher that was installed")
	newBytes = bytes.Repeat([]byte("the launcher that is offered "), 200)
	public   minisign.PublicKey
	private  minisign.PrivateKey
)

func init() {
	var err error
	if public, private, err = minisign.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func artifact() Artifact {
	r := minisign.NewReader(bytes.NewReader(newBytes))
	_, _ = io.Copy(io.Discard, r)
	return Artifact{
		Launcher: Launcher{"2.0.0", digest(newBytes), 2},
		Minisig:  string(r.SignWithComments(private, "trusted", "untrusted")), Keys: []string{public.String()},
	}
}

type unlocked struct{}

func (unlocked) Close() error { return nil }

const (
	installed = "opt/launcher" // the registered path
	folder    = "state/launcher"
)

// mode says who starts a new launcher during its trial: the old one, as on Linux, or what is registered, as on Windows.
type mode string

const (
	leads     mode = "the old one leads in"
	registers mode = "the new one is registered"
)

// modes runs a test in both.
func modes(t *testing.T, test func(t *testing.T, m mode)) {
	for _, m := range []mode{leads, registers} {
		t.Run(string(m), func(t *testing.T) { test(t, m) })
	}
}

// pretend is a machine on a disk that loses power. A link is a file that holds the path of what it leads to: one
// that holds anything else is a launcher itself. What selfupdate does is done to this disk in its order: the new
// file, two renames, no sync.
func (m mode) pretend(d *durabletest.Disk) *Folder {
	return New(folder, System{
		Disk:  d,
		Leads: m == leads,
		Point: func(link, target string) error { return durable.WriteFile(d, link, []byte("-> "+target), 0o777) },
		Lock:  func(string) (io.Closer, error) { return unlocked{}, nil },
		Apply: func(r io.Reader, o selfupdate.Options) error {
			b, err := io.ReadAll(r)
			if err == nil && o.Verifier.Verify(b) != nil {
				err = errors.New("not verified")
			}
			if err != nil {
				return err
			}
			fresh := filepath.Join(filepath.Dir(o.TargetPath), ".launcher.new")
			f, err := d.OpenFile(fresh, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, o.TargetMode)
			if err != nil {
				return err
			}
			if _, err := f.Write(b); err != nil {
				return err
			}
			return errors.Join(f.Close(), d.Rename(o.TargetPath, o.OldSavePath), d.Rename(fresh, o.TargetPath))
		},
	})
}

func fresh(t *testing.T) *durabletest.Disk {
	t.Helper()
	d := durabletest.New()
	for _, dir := range []string{"opt", "state"} {
		if err := durable.MkdirAll(d, dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := durable.WriteFile(d, installed, oldBytes, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// follow is where a link leads.
func follow(d durable.Disk, name string) string {
	b, err := durable.ReadFile(d, name, 1<<20)
	if target, is := strings.CutPrefix(string(b), "-> "); is && err == nil {
		return target
	}
	return name
}

// starts is the launcher that the registered path starts.
func starts(t *testing.T, d *durabletest.Disk, trial string) string {
	t.Helper()
	b, err := durable.ReadFile(d, follow(d, installed), 1<<20)
	switch {
	case err == nil && bytes.Equal(b, oldBytes):
		return "old"
	case err == nil && bytes.Equal(b, newBytes):
		return "new"
	}
	t.Fatalf("%s: the registered path starts no whole launcher: %v, %d bytes", trial, err, len(b))
	return ""
}

// update is a whole self-update up to the moment when the new launcher is started.
func update(f *Folder) error {
	a := artifact()
	if err := f.Place(a, bytes.NewReader(newBytes)); err != nil {
		return err
	}
	before, err := f.Keep(follow(f.sys.Disk, installed), "1.0.0")
	if err == nil {
		err = f.Begin(Trial{Target: a.Launcher, Previous: before, Link: installed})
	}
	return err
}

// health is how a new launcher is.
type health int

const (
	good   health = iota // it reports in
	idle                 // it makes its first act, if it has one, and never reports in
	frozen               // it hangs before any act of its own, and is killed
)

// boot is what launchers do when they are started again and again, until one stays. The old one settles and
// stays; a good new one reports in.
func (m mode) boot(t *testing.T, d *durabletest.Disk, h health, trial string) string {
	t.Helper()
	f, oldOne, newOne := m.pretend(d), digest(oldBytes), digest(newBytes)
	for n := range 5 {
		which := starts(t, d, trial)
		own := map[string]string{"old": oldOne, "new": newOne}[which]
		if which == "new" && h == frozen && tried(f) {
			if m == leads {
				t.Fatalf("%s: the registered path starts a launcher that has not reported in", trial)
			}
			// The guard comes with the machine.
			if err := f.Back(newOne, "did not report in"); d.Dead() {
				return "dead"
			} else if err != nil {
				t.Fatalf("%s: back: %v", trial, err)
			}
			continue
		}
		next, err := f.Try(own, 100+n)
		if err != nil && !d.Dead() {
			t.Fatalf("%s: try: %v", trial, err)
		}
		if err == nil && next == Stay && which == "old" {
			err = f.Settle(oldOne)
		} else if err == nil && h == good && tried(f) {
			err = f.Report(newOne)
		}
		switch {
		case d.Dead():
			return "dead"
		case err != nil:
			t.Fatalf("%s: settle or report: %v", trial, err)
		case next == Stay && which == "old":
			return "old"
		case !tried(f) && next != Leave:
			return "new"
		} // else it ends, and its manager starts what is registered
	}
	t.Fatalf("%s: no launcher stayed after 5 starts", trial)
	return ""
}

// tried says whether the new launcher has yet to report in, as far as can be read.
func tried(f *Folder) bool {
	on, err := f.OnTrial(digest(newBytes))
	return on && err == nil
}

// rested checks what is true when no trial is under way.
func (m mode) rested(t *testing.T, d *durabletest.Disk, which, trial string) {
	t.Helper()
	f := m.pretend(d)
	if tr, err := f.Trial(); err != nil || tr != nil {
		t.Fatalf("%s: the trial is not over: %v, %v", trial, tr, err)
	}
	if got := starts(t, d, trial); got != which {
		t.Fatalf("%s: the %s launcher runs, the %s one is registered", trial, which, got)
	}
}

// real is a folder on this machine, with links and with selfupdate itself.
func real(t *testing.T) (*Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "launcher")
	return New(dir, System{
		Disk: durable.OS(), Apply: selfupdate.Apply,
		Point: point,
		Lock:  func(name string) (io.Closer, error) { return durable.Lock(name) },
	}), dir
}

func TestPlaceWithSelfupdate(t *testing.T) {
	f, dir := real(t)
	if err := f.Place(artifact(), bytes.NewReader(newBytes)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.File(digest(newBytes)))
	if err != nil || !bytes.Equal(got, newBytes) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, digest(newBytes)))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := f.Place(artifact(), nil); err != nil {
		t.Errorf("a second time, without the bytes: %v", err)
	}
	if found, sum, ok := Find(f.File(digest(newBytes))); !ok || found != dir || sum != digest(newBytes) {
		t.Errorf("found %s, %s, %v", found, sum, ok)
	}
}

// Wrong bytes, a wrong signature and an untrusted key are refused before anything is written.
func TestPlaceRefuses(t *testing.T) {
	stranger, _, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := artifact()
	r := minisign.NewReader(bytes.NewReader(oldBytes))
	_, _ = io.Copy(io.Discard, r)
	other.Minisig = string(r.SignWithComments(private, "trusted", "untrusted"))
	unknown := artifact()
	unknown.Keys = []string{stranger.String()}
	unsigned := artifact()
	unsigned.Minisig = ""
	path := artifact()
	path.Digest = "../../etc"
	for name, c := range map[string]struct {
		a    Artifact
		data []byte
	}{
		"digest": {artifact(), append([]byte("x"), newBytes...)}, "signature of other bytes": {other, newBytes},
		"unknown key": {unknown, newBytes}, "no signature": {unsigned, newBytes}, "no digest": {path, newBytes},
	} {
		f, dir := real(t)
		if err := f.Place(c.a, bytes.NewReader(c.data)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something was written: %v", name, err)
		}
		if err := f.Begin(Trial{Target: c.a.Launcher, Previous: Launcher{Digest: digest(oldBytes)}, Link: filepath.Join(filepath.Dir(dir), "l")}); err == nil {
			t.Errorf("%s: what was refused was put on trial", name)
		}
	}
}

// fake is a process that ends when it is told.
type fake struct{ dead, killed bool }

func (p *fake) Ended(time.Duration) bool { return p.dead }
func (p *fake) Kill()                    { p.killed, p.dead = true, true }

// onTrial is a real folder whose new launcher is on trial.
func onTrial(t *testing.T) (*Folder, string) {
	t.Helper()
	f, _ := real(t)
	exe := filepath.Join(t.TempDir(), "launcher")
	if err := os.WriteFile(exe, oldBytes, 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := f.Keep(exe, "1.0.0")
	if err == nil {
		err = f.Place(artifact(), bytes.NewReader(newBytes))
	}
	if err == nil {
		err = f.Begin(Trial{Target: artifact().Launcher, Previous: before, Link: exe})
	}
	if err != nil {
		t.Fatal(err)
	}
	return f, exe
}

func leadsTo(t *testing.T, f *Folder, exe string, b []byte) {
	t.Helper()
	if to, err := pointed(exe); err != nil || to != f.File(digest(b)) {
		t.Errorf("the link leads to %s, %v", to, err)
	}
}

func TestGuard(t *testing.T) {
	target := digest(newBytes)
	t.Run("a launcher that hangs is ended", func(t *testing.T) {
		f, exe := onTrial(t)
		p := &fake{}
		if back, err := f.Guard(t.Context(), Guard{Target: target, Within: time.Millisecond, Process: p}); err != nil || !back || !p.killed {
			t.Errorf("went back %v, killed %v, %v", back, p.killed, err)
		}
		leadsTo(t, f, exe, oldBytes)
		if r, err := f.Record(); err != nil || len(r.Refused) != 1 || r.Refused[0].Digest != target {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("it has the time that was stated", func(t *testing.T) {
		f, exe := onTrial(t)
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			const within = 25 * time.Second
			if back, err := f.Guard(t.Context(), Guard{Target: target, Within: within, Process: &fake{}}); err != nil || !back {
				t.Errorf("went back %v, %v", back, err)
			}
			if took := time.Since(begun); took < within || took > within+2*glance {
				t.Errorf("went back after %s, stated are %s", took, within)
			}
		})
		leadsTo(t, f, exe, oldBytes)
	})
	t.Run("one that ended goes back at once", func(t *testing.T) {
		f, exe := onTrial(t)
		if back, err := f.Guard(t.Context(), Guard{Target: target, Within: time.Hour, Process: &fake{dead: true}}); err != nil || !back {
			t.Errorf("went back %v, %v", back, err)
		}
		leadsTo(t, f, exe, oldBytes)
	})
	t.Run("one that nobody started may be tried again", func(t *testing.T) {
		f, exe := onTrial(t)
		nobody := func(int, string) (Process, error) { return nil, nil }
		if back, err := f.Guard(t.Context(), Guard{Target: target, Within: time.Millisecond, Find: nobody}); err != nil || !back {
			t.Errorf("went back %v, %v", back, err)
		}
		leadsTo(t, f, exe, oldBytes)
		if r, err := f.Record(); err != nil || len(r.Refused) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("one that has reported in is let be", func(t *testing.T) {
		f, exe := onTrial(t)
		if err := f.Report(target); err != nil {
			t.Fatal(err)
		}
		p := &fake{}
		if back, err := f.Guard(t.Context(), Guard{Target: target, Within: 0, Process: p}); err != nil || back || p.killed {
			t.Errorf("went back %v, killed %v, %v", back, p.killed, err)
		}
		leadsTo(t, f, exe, newBytes)
		if err := f.Report(target); !errors.Is(err, ErrOver) {
			t.Errorf("reported in twice: %v", err)
		}
	})
}

// A record that cannot be read, and a trial that cannot, end no self-update: the next start puts them aside.
func TestDamagedRecords(t *testing.T) {
	for name, bad := range map[string][]byte{"cut short": []byte(`{"now":{"ver`), "zeroed": make([]byte, 200), "hostile": bytes.Repeat([]byte("["), maxRecord+1)} {
		f, exe := onTrial(t)
		if err := f.Report(digest(newBytes)); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{f.recordFile(), f.trialFile()} {
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_ = f.Settle(digest(newBytes)) // says what was wrong
			if _, err := f.Record(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if tr, err := f.Trial(); tr != nil || err != nil {
				t.Errorf("%s: trial %v, %v", name, tr, err)
			}
			leadsTo(t, f, exe, newBytes)
		}
		if err := f.Collect(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Collect keeps what a record names and removes the rest, downloads too.
func TestCollect(t *testing.T) {
	f, _ := onTrial(t)
	if err := f.Report(digest(newBytes)); err != nil {
		t.Fatal(err)
	}
	stale := strings.Repeat("ab", 32)
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(f.File(stale)), 0o755), os.WriteFile(f.File(stale), nil, 0o755),
		os.WriteFile(filepath.Join(f.dir, stale+".part"), nil, 0o600), f.Collect(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(f.dir, stale+"*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, b := range [][]byte{newBytes, oldBytes} {
		if whole, err := f.whole(digest(b)); err != nil || !whole {
			t.Errorf("a launcher that a record names was removed: %v", err)
		}
	}
}
