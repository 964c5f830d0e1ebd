package host

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// Log is where a service without a console writes.
type Log struct {
	*slog.Logger
	close []io.Closer
}

// OpenLog opens the log of the service called name. On Windows everything from level on goes to
// dir/launcher.log, which rotates, and what an administrator wants to see also to the Event Log, under a
// stable id that the file has too; with an empty dir only there. Elsewhere everything goes to the standard
// error, which systemd gives to the journal.
func OpenLog(name, dir string, level slog.Leveler) (*Log, error) { return openLog(name, dir, level) }

// WithIDs returns a handler that adds the stable event id to every record for next.
func WithIDs(next slog.Handler) slog.Handler { return newEventHandler(next, nil) }

// Close ends the log.
func (l *Log) Close() error {
	var errs []error
	for _, c := range l.close {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Bounds of the log on disk.
const (
	maxLogBytes = 8 << 20
	keptLogs    = 4 // older files: launcher.1.log is the newest of them
)

// rotating is a file that begins anew when it is full. A line is never split over two files.
type rotating struct {
	name string
	most int64
	kept int

	mu   sync.Mutex
	file *os.File
	size int64
}

func openRotating(name string) (*rotating, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	r := &rotating{name: name, most: maxLogBytes, kept: keptLogs}
	return r, r.open()
}

func (r *rotating) open() error {
	f, err := os.OpenFile(r.name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.file, r.size = f, st.Size()
	return nil
}

// Write appends one line.
func (r *rotating) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size > 0 && r.size+int64(len(p)) > r.most {
		r.turn()
	}
	n, err := r.file.Write(p)
	r.size += int64(n)
	return n, err
}

// turn moves every file one number up and begins a new one. Windows renames no file that is open, not even by
// us. If something else holds one, as a virus scanner may, the present file goes on growing and the next
// line tries again.
func (r *rotating) turn() {
	_ = r.file.Close() // written to the last line
	for i := r.kept; i > 0; i-- {
		if err := os.Rename(r.older(i-1), r.older(i)); err != nil && !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	_ = r.open() // else the write that follows says so
}

// older is the name of the i-th older file; 0 is the present one.
func (r *rotating) older(i int) string {
	if i == 0 {
		return r.name
	}
	ext := filepath.Ext(r.name)
	return fmt.Sprintf("%s.%d%s", r.name[:len(r.name)-len(ext)], i, ext)
}

// Close closes the present file.
func (r *rotating) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file.Close()
}
