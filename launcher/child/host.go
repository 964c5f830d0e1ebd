package child

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// Options are what a Host needs. Disk, Dir, Wire and Output must be given.
type Options struct {
	Disk durable.Disk
	Dir  string // the run folder: one record per process, nothing else
	// Wire is the address that payloads dial, a unix socket whose path CheckWire lets pass, since
	// notify sockets are made beside it. Its folder must be open to the payload's user; who may
	// speak is decided by pid and token, not by the file's mode.
	Wire   string
	Output string // the folder of the output files, NUMBER-ID.log; the newest 32 are kept
	// OutputBytes is how large an output file becomes before its last half is copied aside and it starts
	// again; 4 MiB if zero.
	OutputBytes int64
	// ExecChild is the command that ends in ExecActivated, put before the program of a Spec of kind
	// Activation; the running executable with "exec-child" if empty.
	ExecChild []string
	// CtrlC is the command that ends in SendCtrlC, put before the process id, on Windows; the running
	// executable with "ctrl-c" if empty.
	CtrlC []string
	Log   *slog.Logger // slog.Default if nil
}

// Host owns the wire socket and everything that watches processes. It is safe for concurrent use.
type Host struct {
	o    Options
	boot string
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	spawn sync.Mutex // held over making a process and entering it in byPID

	mu      sync.Mutex
	ln      net.Listener     // the wire; another one when somebody removed its socket
	byPID   map[int]*Process // living processes
	clients int              // open wire connections

	outMu sync.Mutex // held while an output file is cut short
}

// New opens the wire. Call Adopt next, before any Start, and Close at the end.
func New(o Options) (*Host, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.OutputBytes == 0 {
		o.OutputBytes = 4 << 20
	}
	var err error
	for _, path := range []*string{&o.Dir, &o.Wire, &o.Output} {
		if *path, err = absolute(*path); err != nil {
			return nil, fmt.Errorf("open process host: %w", err)
		}
	}
	own, err := ownCommand()
	if err != nil {
		return nil, fmt.Errorf("open process host: %w", err)
	}
	if len(o.ExecChild) == 0 {
		o.ExecChild = []string{own, "exec-child"}
	}
	if len(o.CtrlC) == 0 {
		o.CtrlC = []string{own, "ctrl-c"}
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("open process host: %w", err)
	}
	h := &Host{o: o, boot: boot, byPID: make(map[int]*Process)}
	h.ctx, h.stop = context.WithCancel(context.Background())
	if err := errors.Join(h.folders(), h.openWire()); err != nil {
		h.Close()
		return nil, fmt.Errorf("open process host: %w", err)
	}
	h.wg.Add(1)
	go h.keepOutput()
	return h, nil
}

// WireAddress is where the payloads of a launcher with this state folder dial: wire.sock inside it, or a named
// pipe of its own on Windows.
func WireAddress(stateDir string) string { return wireAddress(stateDir) }

// CheckWire tells whether that address can be listened at, and the notify socket of each payload made beside it.
func CheckWire(wire string) error { return checkWire(wire) }

// absolute leaves a named pipe's address (\\.\pipe\name) as it is, since that is absolute already.
func absolute(path string) (string, error) {
	if path == "" {
		return "", errors.New("a path of the options is empty")
	}
	return filepath.Abs(path)
}

// Close lets go of every process without ending it and waits for everything that the Host runs. The next
// Host adopts them. Every Process of this Host is of no more use.
func (h *Host) Close() {
	h.spawn.Lock() // a Start under way enters its process first, so that its watcher is waited for
	h.stop()
	h.spawn.Unlock()
	h.mu.Lock()
	if h.ln != nil {
		_ = h.ln.Close() // only says that it was closed before
	}
	for _, p := range h.byPID {
		p.dropLinks()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Start runs a program. The process is recorded and synced before it is made. The context bounds the
// start alone: the process lives on when it ends.
func (h *Host) Start(ctx context.Context, s Spec) (*Process, error) {
	p, err := h.start(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Number, err)
	}
	return p, nil
}

func (h *Host) start(ctx context.Context, s Spec) (started *Process, err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if name, err := exec.LookPath(s.Path); err == nil && !strings.ContainsAny(s.Path, `/\`) {
		s.Path = name
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if err := canRun(s); err != nil {
		return nil, err
	}
	if err := h.furnish(); err != nil {
		return nil, err
	}
	secret := newToken()
	p := h.process(s, h.describe(s, secret))
	out, err := createOutput(p.rec.Output, s.User)
	if err != nil {
		return nil, fmt.Errorf("open its output file: %w", err)
	}
	defer out.Close()
	defer func() {
		if started == nil { // by a panic too, which the launcher survives
			h.undo(p)
		}
	}()
	if err := h.make(p, secret, out); err != nil {
		return nil, err
	}
	line := record{PID: p.handle.pid, Start: p.handle.start}
	if err := extendRecord(h.o.Disk, p.rec.path, line); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It serves all the same. Only a launcher that dies now makes the next one end it instead of adopting it.
		h.o.Log.Warn("complete the record of a process", "version", s.Number, "pid", p.handle.pid, "err", err)
	}
	return p, nil
}

// undo takes back a start that did not come to its end: nobody would know of a process that it left.
func (h *Host) undo(p *Process) {
	if p.handle != nil {
		p.Kill() // what is left of it is cleared away by who watches it
		return
	}
	p.clear()
	_ = os.Remove(p.rec.Output) // it is empty
}

// make opens the notify socket, writes the record and then makes the process, in this order.
func (h *Host) make(p *Process, secret token, out *os.File) (err error) {
	if p.note, err = listenNotify(p.rec.Notify, p.spec.User); err != nil {
		return fmt.Errorf("open its notify socket: %w", err)
	}
	if err := createRecord(h.o.Disk, p.rec); err != nil {
		return fmt.Errorf("record it before the spawn: %w", err)
	}
	return h.spawnProcess(p, secret, out)
}

// describe makes the record of a process to be started.
func (h *Host) describe(s Spec, secret token) record {
	id := newID()
	r := record{
		path: filepath.Join(h.o.Dir, id), Boot: h.boot, Token: secret.hash(), At: time.Now(),
		Number: s.Number, Digest: s.Digest, Role: s.Role, Kind: s.Kind, Path: s.Path, Data: s.Data, Addr: s.Addr,
		Output: filepath.Join(h.o.Output, s.Number+"-"+id+".log"),
		Notify: notifyAddress(h.o.Wire, id),
	}
	for _, l := range s.Listeners {
		r.Names = append(r.Names, l.Name)
	}
	return r
}

// spawnProcess makes the process and begins to watch it. A wire connection of a process that is a little
// faster than this function finds it by waiting for the lock.
func (h *Host) spawnProcess(p *Process, secret token, out *os.File) error {
	h.spawn.Lock()
	defer h.spawn.Unlock()
	if h.ctx.Err() != nil {
		return ErrClosed
	}
	p.forked = time.Now()
	handle, err := spawn(p, secret, out)
	if err != nil {
		return fmt.Errorf("run %s: %w", p.spec.Path, err)
	}
	p.handle = handle
	h.watch(p)
	return nil
}

// watch enters p and starts what waits for it. The caller holds h.spawn.
func (h *Host) watch(p *Process) {
	h.mu.Lock()
	h.byPID[p.handle.pid] = p
	h.mu.Unlock()
	h.wg.Add(2)
	go p.watch()
	go p.hearNotify()
}

// forget takes p out. It is called before the process is reaped, after which its pid may be another's.
func (h *Host) forget(p *Process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byPID[p.handle.pid] == p {
		delete(h.byPID, p.handle.pid)
	}
}

// lookup returns the living process with the given pid, nil if there is none.
func (h *Host) lookup(pid int) *Process {
	h.spawn.Lock()
	defer h.spawn.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byPID[pid]
}

// living returns all processes that have not been forgotten.
func (h *Host) living() []*Process {
	h.mu.Lock()
	defer h.mu.Unlock()
	ps := make([]*Process, 0, len(h.byPID))
	for _, p := range h.byPID {
		ps = append(ps, p)
	}
	return ps
}
