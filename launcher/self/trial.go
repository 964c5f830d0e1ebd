package self

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// ErrOver says that there is no trial of this launcher any more: it was taken back meanwhile.
var ErrOver = errors.New("the trial of this launcher is over")

// Begin puts a launcher that is in its place on trial: from the next start on it runs. Power before the record is on
// the disk: nothing has begun. After it and before the link is moved: what was installed starts, and removes the
// record. After that: the trial goes on.
func (f *Folder) Begin(t Trial) error {
	for _, digest := range []string{t.Target.Digest, t.Previous.Digest} {
		switch whole, err := f.whole(digest); {
		case err != nil:
			return fmt.Errorf("begin a trial: %w", err)
		case !whole:
			return fmt.Errorf("begin a trial: the launcher %.12s is not whole in %s", digest, f.dir)
		}
	}
	l, err := f.lock()
	if err != nil {
		return err
	}
	defer l.Close()
	t.Tries, t.PID = 0, 0
	if err := f.write(f.trialFile(), t); err != nil {
		return fmt.Errorf("begin a trial: %w", err)
	}
	if err := f.sys.Point(t.Link, f.File(f.counts(&t))); err != nil {
		return fmt.Errorf("begin a trial: %w", errors.Join(err, f.back(&t, "")))
	}
	return nil
}

// counts is the digest of the launcher that the link starts during a trial, and whose first act counts that start.
func (f *Folder) counts(t *Trial) string {
	if f.sys.Leads {
		return t.Previous.Digest
	}
	return t.Target.Digest
}

// Next is what a launcher that was just started does.
type Next int

// What Try answers.
const (
	Stay   Next = iota // it runs
	Become             // it becomes the launcher on trial
	Leave              // it ends, and the link starts another
)

// Try counts a start of the launcher with this digest, before it does anything else, if it is the one that counts.
// What goes wrong stops nobody: this launcher is whole, and its service is down until one runs.
func (f *Folder) Try(digest string, pid int) (Next, error) {
	runs, err := f.count(digest, pid)
	switch {
	case err != nil || runs == digest:
		return Stay, err
	case f.sys.Leads:
		return Become, nil
	}
	return Leave, nil
}

// count is Try, and returns the digest of the launcher that is to run.
func (f *Folder) count(digest string, pid int) (string, error) {
	l, err := f.lock()
	if err != nil {
		return "", err
	}
	defer l.Close()
	t, err := f.Trial()
	if t == nil {
		return digest, err
	}
	passed, err := f.passed(t)
	switch {
	case err != nil:
		return "", err
	case passed:
		return t.Target.Digest, f.pass(t)
	case f.counts(t) != digest:
		return digest, nil
	}
	t.Tries++
	t.PID = pid
	if t.Tries > maxTries {
		return t.Previous.Digest, f.back(t, fmt.Sprintf("did not report in after %d starts", maxTries))
	}
	return t.Target.Digest, f.write(f.trialFile(), t)
}

// Settle ends what an earlier trial left behind, in a launcher that is not the one on trial and runs: the record
// of one that never began, or of one that was gone back from, and not to the end.
func (f *Folder) Settle(digest string) error {
	if err := f.mend(); err != nil {
		return err
	}
	t, err := f.Trial()
	switch {
	case durable.Busy(err): // it may lead somewhere
		return err
	case err != nil: // it leads nowhere
		return errors.Join(err, durable.RemoveAll(f.sys.Disk, f.trialFile()))
	}
	if t == nil || t.Target.Digest == digest {
		return nil
	}
	reason := ""
	if t.Tries > 0 {
		reason = "did not report in"
	}
	return f.Back(t.Target.Digest, reason)
}

// mend puts a record of earlier self-updates aside that cannot be read, so that it does not end them all. What it
// knew is lost: which launchers failed here, and the highest epoch; the signed channel alone decides then.
func (f *Folder) mend() error {
	_, err := f.Record()
	var disk *fs.PathError
	if err == nil || errors.As(err, &disk) { // what cannot be read now may be whole
		return nil
	}
	if err := f.sys.Disk.Rename(f.recordFile(), f.recordFile()+".damaged"); err != nil {
		return fmt.Errorf("put a damaged record aside: %w", err)
	}
	return f.sys.Disk.SyncDir(f.dir)
}

// OnTrial says whether the launcher with this digest has yet to report in.
func (f *Folder) OnTrial(digest string) (bool, error) {
	t, err := f.Trial()
	return t != nil && t.Target.Digest == digest, err
}

// Report ends the trial of the launcher with this digest: it works. It returns ErrOver if it was taken back.
func (f *Folder) Report(digest string) error {
	l, err := f.lock()
	if err != nil {
		return err
	}
	defer l.Close()
	t, err := f.Trial()
	if err != nil {
		return err
	}
	if t == nil || t.Target.Digest != digest {
		return ErrOver
	}
	r, err := f.Record()
	if err != nil {
		return err
	}
	if r.Now.Digest != digest {
		r.Previous = t.Previous.Digest
	}
	r.Now, r.HighWater = t.Target, max(r.HighWater, t.Target.Epoch)
	if err := f.write(f.recordFile(), r); err != nil {
		return fmt.Errorf("record the new launcher: %w", err)
	}
	return f.pass(t) // power here: the record tells that it has reported in
}

// pass ends the trial of a launcher that has reported in: from now on the link starts it.
func (f *Folder) pass(t *Trial) error {
	if err := f.sys.Point(t.Link, f.File(t.Target.Digest)); err != nil {
		return fmt.Errorf("register the launcher %s: %w", t.Target.Version, err)
	}
	return f.end()
}

// Back makes the link start the launcher before the one with this digest again, if that is still on trial. With
// a reason it is not tried again.
func (f *Folder) Back(digest, reason string) error {
	l, err := f.lock()
	if err != nil {
		return err
	}
	defer l.Close()
	t, err := f.Trial()
	if t == nil || t.Target.Digest != digest {
		return err
	}
	return f.back(t, reason)
}

// back is Back under the lock. The record of the trial goes last, so that a power cut anywhere leads here again.
func (f *Folder) back(t *Trial, reason string) error {
	switch passed, err := f.passed(t); {
	case err != nil:
		return err
	case passed:
		return f.pass(t)
	}
	if err := f.sys.Point(t.Link, f.File(t.Previous.Digest)); err != nil {
		return fmt.Errorf("go back to the launcher %s: %w", t.Previous.Version, err)
	}
	if reason != "" {
		r, err := f.Record()
		if err != nil {
			return err
		}
		r.note(t.Target, reason)
		if err := f.write(f.recordFile(), r); err != nil {
			return err
		}
	}
	return f.end()
}

// passed says whether the trial's launcher has reported in and only the record of the trial was left behind. While
// another program has the record open nobody knows, and no verdict is made. One that is damaged says no.
func (f *Folder) passed(t *Trial) (bool, error) {
	r, err := f.Record()
	if durable.Busy(err) {
		return false, err
	}
	return err == nil && r.Now.Digest == t.Target.Digest && r.HighWater >= t.Target.Epoch, nil
}

func (f *Folder) end() error {
	if err := f.sys.Disk.Remove(f.trialFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.sys.Disk.SyncDir(f.dir)
}

// Raise records that the launcher which runs is the one that was offered under this epoch.
func (f *Folder) Raise(l Launcher) error {
	r, err := f.Record()
	if err != nil || r.Now == l && r.HighWater >= l.Epoch {
		return err
	}
	r.Now, r.HighWater = l, max(r.HighWater, l.Epoch)
	if err := durable.MkdirAll(f.sys.Disk, f.dir, 0o755); err != nil {
		return err
	}
	return f.write(f.recordFile(), r)
}

// Process is a process that the guard watches.
type Process interface {
	Ended(within time.Duration) bool
	Kill()
}

// Guard is how a trial is watched from outside.
type Guard struct {
	Target  string // digest
	Within  time.Duration
	Process Process                                     // that becomes the new launcher, nil if a manager starts it
	Find    func(pid int, file string) (Process, error) // pid is 0 before the start was counted; nil if there is none
}

const glance = 50 * time.Millisecond // between two looks at the record

// Guard waits for the end of a trial, and goes back if that does not come in time, or the process that became
// the new launcher ends before. It says whether it did, when the new launcher is dead. One that nobody has started, since
// its file was held or its manager did not, may be tried again.
func (f *Folder) Guard(ctx context.Context, g Guard) (wentBack bool, err error) {
	began, alone := time.Now(), g.Process != nil
	started := alone
	for {
		t, err := f.Trial()
		if err != nil || t == nil || t.Target.Digest != g.Target {
			return false, err
		}
		if g.Process == nil {
			if g.Process, err = g.Find(t.PID, f.File(g.Target)); err != nil {
				return false, err
			}
		}
		started = started || g.Process != nil || t.Tries > 0
		reason := ""
		switch {
		case alone && g.Process.Ended(0):
			reason = "ended without having reported in"
		case g.Process != nil && g.Process.Ended(0):
			g.Process = nil // its manager starts it again
		case time.Since(began) <= g.Within:
		case !started:
			return f.takeBack(g, "")
		default:
			reason = fmt.Sprintf("did not report in within %s", g.Within)
		}
		if reason != "" {
			return f.takeBack(g, reason)
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(glance):
		}
	}
}

// takeBack flips first: what dies then is started from the link by its manager.
func (f *Folder) takeBack(g Guard, reason string) (bool, error) {
	if err := f.Back(g.Target, reason); err != nil {
		return false, err
	}
	if r, err := f.Record(); err == nil && r.Now.Digest == g.Target {
		return false, nil // it has reported in at this very moment
	}
	if g.Process != nil {
		g.Process.Kill()
		g.Process.Ended(5 * time.Second)
	}
	return true, nil
}
