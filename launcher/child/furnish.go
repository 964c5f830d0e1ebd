package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// furnish makes again what somebody cleared away while the launcher runs, and what a process needs to be started: else
// the version that serves could not be, and a good one would never hear that it may be ready.
func (h *Host) furnish() error {
	_, err := h.o.Disk.Lstat(h.o.Dir)
	_, outErr := os.Lstat(h.o.Output)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(outErr, fs.ErrNotExist) {
		h.o.Log.Warn("somebody removed a folder of processes; it is made again", "run", h.o.Dir, "log", h.o.Output)
		if err := h.folders(); err != nil {
			return err
		}
	}
	return h.openWire()
}

func (h *Host) folders() error {
	if err := durable.MkdirAll(h.o.Disk, h.o.Dir, 0o700); err != nil {
		return err
	}
	// The names in it are the ids of processes, and no business of other accounts.
	return errors.Join(os.MkdirAll(h.o.Output, 0o750), os.Chmod(h.o.Output, 0o750))
}

// openWire listens for payloads, if nobody can reach the socket that there was. Those who are connected stay it.
func (h *Host) openWire() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return ErrClosed
	}
	if h.ln != nil && !wireLost(h.ln) {
		return nil
	}
	ln, err := listenWire(h.o.Wire)
	if err != nil {
		return fmt.Errorf("listen for payloads at %s: %w", h.o.Wire, err)
	}
	if h.ln != nil {
		h.o.Log.Warn("somebody removed the socket of payloads; it is made again", "wire", h.o.Wire)
		_ = h.ln.Close() // who waited in its queue dials again
	}
	h.ln = ln
	h.wg.Add(1)
	go h.acceptWire(ln)
	return nil
}
