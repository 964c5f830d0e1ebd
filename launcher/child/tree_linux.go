package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stat is what is needed of /proc/PID/stat; see proc(5).
type stat struct {
	pid, parent, group, session int
	state                       byte
	start                       uint64
}

func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(b))
}

// parseStat reads one line. The second field is the program's name in parentheses, which may hold anything,
// parentheses too, so the rest begins after the last one.
func parseStat(line string) (stat, error) {
	var s stat
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return s, fmt.Errorf("not a process status: %q", line)
	}
	f := strings.Fields(line[end+1:])
	if len(f) < 20 {
		return s, fmt.Errorf("process status of %d fields", len(f))
	}
	var errs [5]error
	s.state = f[0][0]
	s.pid, errs[0] = strconv.Atoi(strings.TrimSpace(line[:open]))
	s.parent, errs[1] = strconv.Atoi(f[1])
	s.group, errs[2] = strconv.Atoi(f[2])
	s.session, errs[3] = strconv.Atoi(f[3])
	s.start, errs[4] = strconv.ParseUint(f[19], 10, 64)
	return s, errors.Join(errs[:]...)
}

// processes lists everything that lives, except this process. What ends meanwhile is left out.
func processes() []stat {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1) // a partial list is of use too
	var all []stat
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if s, err := readStat(pid); err == nil && !s.dead() {
			all = append(all, s)
		}
	}
	return all
}

// readMark returns the value of envMark in the environment that a process was started with, "" if it has
// none or may not be looked at.
func readMark(pid int) string {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return ""
	}
	for nv := range bytes.SplitSeq(b, []byte{0}) {
		if v, ok := strings.CutPrefix(string(nv), envMark+"="); ok {
			return v
		}
	}
	return ""
}

// tree returns the living processes that belong to h: children and children's children, members of its
// session, bearers of its mark. While h is neither reaped nor ended nobody else can have its pid; later
// only the mark counts.
func (h *handle) tree(mark string) []stat {
	all := processes()
	byPID := make(map[int]stat, len(all))
	for _, s := range all {
		byPID[s.pid] = s
	}
	main, alive := byPID[h.pid]
	certain := h.child || alive && main.start == h.start
	var tree []stat
	for _, s := range all {
		related := certain && (s.session == h.pid || descends(s, h.pid, byPID))
		if related || readMark(s.pid) == mark {
			tree = append(tree, s)
		}
	}
	return tree
}

// memory adds up the anonymous pages of the tree that are in memory: resident less shared of statm, see proc(5).
func (h *handle) memory(mark string) (bytes int64) {
	for _, s := range h.tree(mark) {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(s.pid) + "/statm")
		var size, resident, shared int64
		if err != nil { // it has just ended
			continue
		}
		if _, err := fmt.Sscan(string(b), &size, &resident, &shared); err == nil {
			bytes += max(0, resident-shared) * int64(os.Getpagesize())
		}
	}
	return bytes
}

func descends(s stat, ancestor int, byPID map[int]stat) bool {
	for range len(byPID) { // a list that was taken while pids moved may hold a circle
		if s.pid == ancestor {
			return true
		}
		next, ok := byPID[s.parent]
		if !ok {
			return s.parent == ancestor
		}
		s = next
	}
	return false
}

// descendants returns handles of all of the tree but h itself; the caller closes them.
func (h *handle) descendants(mark string) []*handle {
	var ds []*handle
	for _, s := range h.tree(mark) {
		if s.pid == h.pid && s.start == h.start {
			continue
		}
		if d, err := openProcess(s.pid, s.start); err == nil && d != nil {
			ds = append(ds, d)
		}
	}
	return ds
}

// terminate asks the process group to end: SIGTERM, and SIGCONT so that a stopped process hears it. Who
// else is in the tree is given: when the parents are dead nobody can tell.
func (h *handle) terminate(tree []*handle, _ []string) {
	for _, m := range append(tree, h) {
		if m.group == h.pid {
			m.signal(unix.SIGTERM)
			m.signal(unix.SIGCONT)
		}
	}
}

// contains reports whether a process belongs to h; the sender of a notification, say.
func (h *handle) contains(pid int, mark string) bool {
	if pid == h.pid {
		return true
	}
	for range 64 { // the depth of a tree of processes
		s, err := readStat(pid)
		if err != nil {
			return false
		}
		if s.pid == h.pid || s.parent == h.pid || s.session == h.pid || readMark(pid) == mark {
			return true
		}
		pid = s.parent
	}
	return false
}

// endTree kills what bears the mark of a record and waits until nothing does.
func endTree(ctx context.Context, recordPath string) error {
	return endMarked(ctx, func(mark string) bool { return mark == recordPath })
}

// endStrays does so with every mark of the run folder that is not known.
func endStrays(ctx context.Context, dir string, known map[string]bool) error {
	return endMarked(ctx, func(mark string) bool {
		return filepath.Dir(mark) == dir && recordName.MatchString(filepath.Base(mark)) && !known[mark]
	})
}

func endMarked(ctx context.Context, wanted func(mark string) bool) error {
	for range sweepRounds {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		found := 0
		for _, s := range processes() {
			mark := readMark(s.pid)
			if mark == "" || !wanted(mark) {
				continue
			}
			found++
			if d, err := openProcess(s.pid, s.start); err == nil && d != nil {
				d.kill()
				d.waitFor(ctx, killLimit/sweepRounds)
				d.reap()
				d.close()
			}
		}
		if found == 0 {
			return nil
		}
	}
	return fmt.Errorf("processes survive SIGKILL for %v", killLimit.Round(time.Second))
}
