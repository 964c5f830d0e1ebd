package child

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The output of a process is a file that it appends to by itself. It is no pipe: a pipe would end the
// process by SIGPIPE when the launcher dies. Since the process holds the file open, the file is not
// renamed when it is full but copied aside and truncated; appending then goes on at its beginning. A line
// written between the copy and the truncation is lost.
const (
	keepOutputs   = 32                     // output files of ended processes and living ones
	slowestLook   = 2 * time.Second        // between two looks at the sizes while nothing writes: waking up is what costs
	usualLook     = 200 * time.Millisecond // while something writes
	fastestLook   = 5 * time.Millisecond   // while something writes a lot
	maxTailBytes  = 1 << 20
	maxReadBytes  = 64 << 20
	copyRounds    = 5    // of a file that grows while it is copied
	copiedPart    = 2    // the last 1/2 of the cap is kept aside
	previousMark  = ".1" // of the copy
	outputPattern = "*.log"
)

// createOutput opens the output file of a new process.
func createOutput(path string, u *User) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	if u != nil {
		if err := u.open(f); err != nil {
			_ = f.Close() // nothing was written to it
			return nil, err
		}
	}
	return f, nil
}

// pruneOutput removes the oldest files of ended processes when there are more than keepOutputs. A file that
// cannot be removed stays: it is evidence, not state.
func (h *Host) pruneOutput() {
	paths, err := filepath.Glob(filepath.Join(h.o.Output, outputPattern))
	if err != nil || len(paths) <= keepOutputs {
		return
	}
	inUse := make(map[string]bool)
	for _, p := range h.living() {
		inUse[p.rec.Output] = true
	}
	slices.SortFunc(paths, func(a, b string) int { return modified(a).Compare(modified(b)) })
	for _, path := range paths[:len(paths)-keepOutputs] {
		if !inUse[path] {
			_ = os.Remove(path)
			_ = os.Remove(path + previousMark)
		}
	}
}

func modified(path string) time.Time {
	fi, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// keepOutput looks at the sizes of the output files until the Host closes, more often while one of them
// grows fast. Between two looks a program can write as much as the disk takes in that time.
func (h *Host) keepOutput() {
	defer h.wg.Done()
	pause := usualLook
	timer := time.NewTimer(pause)
	defer timer.Stop()
	last := make(map[string]int64)
	for {
		select {
		case <-timer.C:
		case <-h.ctx.Done():
			return
		}
		now, grown := make(map[string]int64), int64(0)
		for _, p := range h.living() {
			path := p.rec.Output
			now[path] = h.capOutput(path)
			grown = max(grown, now[path]-last[path])
		}
		last = now
		switch {
		case grown > h.o.OutputBytes/8:
			pause = max(min(pause, usualLook)/4, fastestLook)
		case grown > 0:
			pause = min(pause*2, usualLook)
		default:
			pause = min(pause*2, slowestLook)
		}
		timer.Reset(pause)
	}
}

// capOutput copies the end of a file that is too large to path.1, empties it, and returns the size that it
// found. An error leaves the file for the next look.
func (h *Host) capOutput(path string) int64 {
	h.outMu.Lock() // a second copy at the same time would be one of the emptied file
	defer h.outMu.Unlock()
	limit := h.o.OutputBytes
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	if fi.Size() > limit {
		_ = copyEnd(path, limit/copiedPart) // a full disk: emptying the file is what helps
		_ = os.Truncate(path, 0)            // tried again at the next look
	}
	return fi.Size()
}

// copyEnd writes the last maxBytes of path to path.1. What is written meanwhile is copied after it, so that
// only a line of the last microseconds can fall between the copy and the truncation.
func copyEnd(path string, maxBytes int64) error {
	b, end, err := readFrom(path, -maxBytes)
	if err != nil {
		return err
	}
	for range copyRounds {
		if err := os.WriteFile(path+previousMark, b, 0o640); err != nil {
			return err
		}
		more, next, err := readFrom(path, end)
		if err != nil || len(more) == 0 {
			return err
		}
		b, end = append(b, more...), next
		b = b[max(0, int64(len(b))-maxBytes):]
	}
	return nil
}

// readFrom reads path from an offset, or its last bytes if the offset is negative, and returns where it
// stopped.
func readFrom(path string, offset int64) (b []byte, end int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 {
		offset = max(0, size+offset)
	}
	b = make([]byte, min(max(0, size-offset), maxReadBytes))
	n, err := f.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil // it was truncated meanwhile
	}
	return b[:n], offset + int64(n), err
}

// tailOutput returns the last maxBytes of the copy and the file together; what cannot be read is left out.
func tailOutput(path string, maxBytes int) string {
	if maxBytes = min(maxBytes, maxTailBytes); maxBytes <= 0 {
		return ""
	}
	b, _, err := readFrom(path, -int64(maxBytes))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if missing := maxBytes - len(b); missing > 0 {
		before, _, _ := readFrom(path+previousMark, -int64(missing)) // mostly there is none
		b = append(before, b...)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
