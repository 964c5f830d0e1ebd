package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// importing is the command line of bundle import.
type importing struct {
	file   string
	dry    bool
	now    bool
	follow bool
}

func (a *app) bundleCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "take in a repository that came as a file",
		Args:  cobra.NoArgs,
		RunE: a.do(func(context.Context, []string) (answer, error) {
			return nil, exit(control.Usage, "say what: %s bundle import FILE", a.program)
		}),
	}
	var i importing
	take := &cobra.Command{
		Use:   "import FILE",
		Short: "verify a bundle, take it in, and install what it offers",
		Long: "Verifies a bundle ('release bundle' makes them) as the repository would be, copies it into the state folder and\n" +
			"orders the launcher to install what it offers; all gates hold. Without a running launcher it is taken up when\n" +
			"one starts, also on a new host. No network is needed. What is older than what this host has seen is refused,\n" +
			"and so is what has expired for longer than repository.max_staleness.\n\n" +
			"--dry-run says what would happen and changes nothing (exit 0 would be installed, 3 nothing new, 10 held back).\n\n" + exitHelp,
		Args: cobra.ExactArgs(1),
	}
	take.RunE = a.do(func(ctx context.Context, args []string) (answer, error) {
		i.file = args[0]
		return a.importBundle(ctx, i)
	})
	take.Flags().BoolVar(&i.dry, "dry-run", false, "verify it and say what would happen")
	take.Flags().BoolVar(&i.now, "now", false, "do not wait for this host's share, the end of a pause, or a quiet moment")
	take.Flags().BoolVar(&i.follow, "follow", false, "show each step and wait for the outcome")
	cmd.AddCommand(take)
	return cmd
}

// importAnswer says what a bundle holds for this host.
type importAnswer struct {
	File      string      `json:"file"`
	Imported  bool        `json:"imported"`
	Timestamp int64       `json:"timestamp_version"`
	Expires   time.Time   `json:"expires"`           // for this host
	Version   string      `json:"version,omitempty"` // the newest that it carries for this host
	Why       control.Why `json:"why"`               // the gates, as far as they can be judged from outside
	Text      string      `json:"text"`
	program   string
}

func (i importAnswer) text(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%s: genuine, timestamp %d, good until %s\n", i.File, i.Timestamp, day(i.Expires, now))
	if i.Why.Outcome != control.NotChecked {
		whyAnswer{i.Why, i.program}.text(w, now)
	}
	if i.Text != "" {
		fmt.Fprintln(w, i.Text)
	}
}

func (a *app) importBundle(ctx context.Context, i importing) (answer, error) {
	p, err := a.open()
	if err != nil {
		return nil, err
	}
	look, done := i.file, func() {}
	if !i.dry {
		if look, done, err = p.copyBundle(i.file); err != nil {
			return nil, asAdministrator(err)
		}
	}
	defer done()
	t, err := p.tryBundle(ctx, look)
	if err != nil {
		return nil, asAdministrator(fmt.Errorf("%s: %w", i.file, err))
	}
	said := importAnswer{File: i.file, Timestamp: t.view.TimestampVersion, Expires: t.view.Expires, Version: t.version(), Why: t.why(), program: a.program}
	code := map[control.Outcome]control.Code{control.UpToDate: control.NothingToDo, control.Blocked: control.HeldBack}[said.Why.Outcome]
	switch {
	case i.dry:
		said.Text = "nothing was changed (--dry-run)"
		return said, outcome(code)
	case code == control.NothingToDo && !t.news:
		said.Text = "this host knows all of it already: nothing was imported"
		return said, outcome(code)
	}
	if err := p.disk.Rename(look, p.cfg.stateFile(bundleFile)); err != nil {
		return nil, asAdministrator(err)
	}
	if err := p.disk.SyncDir(p.cfg.State.Dir); err != nil {
		return nil, err
	}
	said.Imported = true
	return a.takeUp(ctx, p, i, said, code)
}

// takeUp has the running launcher look at what was imported.
func (a *app) takeUp(ctx context.Context, p place, i importing, said importAnswer, code control.Code) (answer, error) {
	_, err := p.client.Status(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		said.Text = "imported; no launcher runs, the next one takes it up: " + p.start()
		return said, nil
	case err != nil:
		return said, err
	case code == control.OK || code == control.HeldBack && i.now:
		q := control.Request{Version: said.Version, Now: i.now}
		return a.begin(ctx, "update", q, i.follow, "imported; ordered: update to "+said.Version)
	}
	if said.Why, err = p.client.Check(ctx); err != nil {
		return said, p.needs(err)
	}
	said.Text = "imported"
	return said, outcome(map[bool]control.Code{true: control.HeldBack}[code == control.HeldBack])
}

// asAdministrator gives what only an administrator may do its exit code.
func asAdministrator(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return exit(control.NoPrivilege, "%w: run the command as an administrator (sudo)", err)
	}
	return err
}

const (
	importFile = "bundle.new"
	importLock = "bundle.lock"
)

// copyBundle copies a bundle into the state folder, under a name that no launcher looks at. What is verified and
// what is taken up later are so the same bytes, whoever owns the file, and wherever the stick is by then. Done
// removes the copy, if it still has that name.
func (p place) copyBundle(file string) (copied string, done func(), err error) {
	from, err := os.Open(file)
	if err != nil {
		return "", nil, exit(control.Usage, "%w", err)
	}
	defer from.Close()
	if info, err := from.Stat(); err == nil && info.IsDir() {
		return "", nil, exit(control.Usage, "%s is a folder: name the file that 'release bundle' wrote", file)
	}
	if err := (&service{cfg: p.cfg, disk: p.disk}).folders(); err != nil {
		return "", nil, err
	}
	lock, err := durable.Lock(p.cfg.stateFile(importLock))
	if errors.Is(err, durable.ErrLocked) {
		return "", nil, exit(control.NotPrepared, "another bundle is being imported: wait for it to end and run this again")
	}
	if err != nil {
		return "", nil, err
	}
	copied = p.cfg.stateFile(importFile)
	done = func() {
		_ = p.disk.Remove(copied) // at worst it is there until the next import
		_ = lock.Close()          // the kernel drops the lock with the process anyway
	}
	if err = copyFile(copied, from); err != nil {
		done()
		return "", nil, fmt.Errorf("copy the bundle into %s: %w", filepath.Dir(copied), err)
	}
	return copied, done, nil
}

// copyFile makes a new file with the rest of another, synced, that the launcher's account can read.
func copyFile(name string, from io.Reader) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err == nil {
		err = to.Chmod(0o644) // whatever the operator's umask takes away
	}
	if err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}
