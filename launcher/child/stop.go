package child

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// sweepRounds bounds how often the descendants are listed and killed. One round is enough unless they
// fork meanwhile.
const sweepRounds = 50

// waitPause is between two tries to wait for a process: it lives, and must not be forgotten because one failed.
const waitPause = 100 * time.Millisecond

// Stop ends the process and everything it started: SIGTERM to its process group, and SIGKILL to the whole
// tree when grace or ctx is over, whichever is first. It returns when nothing is left, or at the latest 5
// seconds after the kill (a process in an uninterruptible wait: Exit then says "still running"). A process
// that has ended already is only cleaned up. After Host.Close it does nothing.
func (p *Process) Stop(ctx context.Context, grace time.Duration) Exit {
	if tree, ok := p.ask(); ok {
		p.handle.terminate(tree, p.host.o.CtrlC)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.gone:
		return p.Exit()
	case <-timer.C:
	case <-ctx.Done():
	case <-p.host.ctx.Done():
		return p.Exit()
	}
	p.Kill()
	timer.Reset(killLimit)
	select {
	case <-p.gone:
	case <-timer.C:
	case <-p.host.ctx.Done():
	}
	return p.Exit()
}

// Kill ends the process at once and lets its descendants be killed after it. It does not wait: Done and
// Stop do.
func (p *Process) Kill() {
	_, ok := p.ask()
	p.allowKill()
	if ok {
		p.handle.kill()
	}
}

// ask notes that the end is wanted and lists the tree while the program that holds it together lives; not
// ok if it does not live any more.
func (p *Process) ask() (tree []*handle, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	if p.host.ctx.Err() != nil || !p.exit.At.IsZero() {
		return nil, false
	}
	for _, d := range p.handle.descendants(p.rec.path) {
		known := func(h *handle) bool { return h.pid == d.pid && h.start == d.start }
		if slices.ContainsFunc(p.tree, known) {
			d.close()
		} else {
			p.tree = append(p.tree, d)
		}
	}
	return slices.Clone(p.tree), true
}

func closeHandles(hs []*handle) {
	for _, h := range hs {
		h.close()
	}
}

func (p *Process) allowKill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.killing {
		p.killing = true
		close(p.kill)
	}
}

// watch waits for the end of the program and then clears away what it leaves: descendants, zombie,
// sockets, record, in this order. It returns early, leaving all as it is, when the Host closes.
func (p *Process) watch() {
	defer p.host.wg.Done()
	defer p.handle.close()
	defer p.closeNotify()
	defer p.forgetTree()
	for err := p.handle.wait(p.host.ctx); err != nil; err = p.handle.wait(p.host.ctx) {
		if p.host.ctx.Err() != nil {
			return
		}
		p.host.o.Log.Warn("wait for a process", "version", p.spec.Number, "pid", p.handle.pid, "err", err) // for want of a kernel object, say
		select {
		case <-time.After(waitPause):
		case <-p.host.ctx.Done():
		}
	}
	exit := p.handle.status()
	exit.At = time.Now()
	exit.Ran = exit.At.Sub(p.began)
	p.finish(exit)
	if !p.sweep() {
		return
	}
	p.dropLinks()
	p.host.forget(p)
	p.handle.reap()
	p.host.capOutput(p.rec.Output)
	p.host.pruneOutput()
	p.clear()
	close(p.gone)
}

// finish publishes the exit. What the program still had on the wire, its last counters above all, is read
// before.
func (p *Process) finish(exit Exit) {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	if l != nil {
		_ = l.conn.SetReadDeadline(time.Now().Add(lastWords)) // fails only when it is closed: nothing to read
		<-l.ended
	}
	p.mu.Lock()
	p.exit = exit
	asked := p.asked
	p.mu.Unlock()
	if !asked {
		p.allowKill() // nobody stops it, so nobody waits for its descendants to finish
	}
	close(p.done)
	p.host.o.Log.Info("process ended", "version", p.spec.Number, "pid", p.handle.pid, "exit", exit.String())
}

// sweep ends the descendants that outlive the program: at once if nobody asked it to stop, else when the
// grace of Stop is over. False means that the Host closed first.
func (p *Process) sweep() bool {
	graceful, cancel := context.WithCancel(p.host.ctx)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-p.kill:
			cancel()
		case <-graceful.Done():
		}
	}()
	defer func() { cancel(); <-stopped }()

	p.mu.Lock()
	left := p.tree // as it was when the stop was asked for
	p.tree = nil
	p.mu.Unlock()
	for range sweepRounds {
		left = append(left, p.handle.descendants(p.rec.path)...)
		if len(left) == 0 {
			return true
		}
		for _, m := range left {
			_ = m.wait(graceful) // an error is the end of the grace
		}
		for _, m := range left {
			if p.host.ctx.Err() == nil {
				m.kill()
				m.waitFor(p.host.ctx, killLimit/sweepRounds)
				m.reap()
			}
			m.close()
		}
		left = nil
		if p.host.ctx.Err() != nil {
			return false
		}
	}
	p.host.o.Log.Error("descendants of a payload survive SIGKILL", "version", p.spec.Number, "pid", p.handle.pid)
	return true
}

func (p *Process) forgetTree() {
	p.mu.Lock()
	defer p.mu.Unlock()
	closeHandles(p.tree)
	p.tree = nil
}

// clear removes what stands for the process on disk.
func (p *Process) clear() {
	p.closeNotify()
	removeNotify(p.rec.Notify)
	if err := p.host.o.Disk.Remove(p.rec.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.host.o.Log.Warn("remove the record of a process", "version", p.spec.Number, "err", err)
	}
}

func (p *Process) closeNotify() {
	if p.note != nil {
		_ = p.note.Close() // only says that it was closed before
	}
}
