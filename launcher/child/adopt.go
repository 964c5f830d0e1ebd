package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// Adopt goes through the records of earlier launchers. A process that is still the recorded one (pid,
// start time, boot) is adopted: watched, and heard again when an SDK program dials the wire and shows its
// token. Everything else of an earlier launcher is ended and its record removed: descendants whose program
// is dead, processes without a record, and a process whose record has no pid yet (the launcher died within
// moments of the spawn, so nobody has seen it ready). When Adopt returns nil, every payload process of this
// run folder is in the list or dead; what an error is about is left as it was.
func (h *Host) Adopt(ctx context.Context) ([]*Process, error) {
	entries, err := h.o.Disk.ReadDir(h.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("adopt: %w", err)
	}
	var adopted []*Process
	var errs []error
	known := make(map[string]bool) // marks of processes that stay
	for _, e := range entries {
		if !recordName.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(h.o.Dir, e.Name())
		p, err := h.adopt(ctx, path)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("adopt %s: %w", e.Name(), err))
			known[path] = true // it may be the one that serves
		case p != nil:
			adopted = append(adopted, p)
			known[path] = true
		}
	}
	if err := h.reapStrays(ctx, known); err != nil {
		errs = append(errs, err)
	}
	return adopted, errors.Join(errs...)
}

// adopt returns the process of a record, or nil after making sure that nothing of it is left.
func (h *Host) adopt(ctx context.Context, path string) (*Process, error) {
	r, err := readRecord(h.o.Disk, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it ended in this moment; its own watcher removed the record
	}
	if err != nil {
		return nil, err
	}
	if r.Boot == h.boot && r.PID != 0 {
		hd, err := openProcess(r.PID, r.Start)
		if err != nil {
			return nil, err
		}
		if hd != nil {
			hd.rejoin(path)
			return h.resume(r, hd)
		}
	}
	return nil, h.discard(ctx, r)
}

// resume makes a Process of a living one.
func (h *Host) resume(r record, hd *handle) (*Process, error) {
	s := Spec{Number: r.Number, Digest: r.Digest, Role: r.Role, Kind: r.Kind, Path: r.Path, Data: r.Data, Addr: r.Addr}
	for _, name := range r.Names {
		s.Listeners = append(s.Listeners, Listener{Name: name})
	}
	p := h.process(s, r)
	p.handle, p.began = hd, r.At
	var err error
	if p.note, err = relistenNotify(r.Notify); err != nil {
		// Its later notifications are lost, nothing else.
		h.o.Log.Warn("reopen a notify socket", "version", r.Number, "pid", r.PID, "err", err)
	}
	if r.Ready {
		p.becomeReady("")
	}
	h.spawn.Lock()
	defer h.spawn.Unlock()
	if h.ctx.Err() != nil {
		p.closeNotify()
		hd.close()
		return nil, ErrClosed
	}
	h.watch(p)
	h.o.Log.Info("process adopted", "version", r.Number, "pid", r.PID)
	return p, nil
}

// discard ends what a record without its process has left, then removes it.
func (h *Host) discard(ctx context.Context, r record) error {
	if err := endTree(ctx, r.path); err != nil {
		return err
	}
	removeNotify(r.Notify)
	h.o.Log.Info("record of a dead process removed", "version", r.Number, "pid", r.PID, "started", r.At.Format(time.RFC3339))
	return h.o.Disk.Remove(r.path)
}

// reapStrays ends processes that bear the mark of this run folder but have no record: descendants that an
// earlier launcher did not live to see ended.
func (h *Host) reapStrays(ctx context.Context, known map[string]bool) error {
	if err := endStrays(ctx, h.o.Dir, known); err != nil {
		return fmt.Errorf("end payload processes without a record: %w", err)
	}
	return nil
}
