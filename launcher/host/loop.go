package host

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// phase is where the service is in the eyes of its manager.
type phase string

const (
	starting phase = "starting"
	running  phase = "running"
	pausing  phase = "pausing"
	paused   phase = "paused"
	resuming phase = "resuming"
	stopping phase = "stopping"
)

// request is what a manager asks for.
type request string

const (
	askStop        request = "stop"
	askPreShutdown request = "shutdown of the machine is near"
	askShutdown    request = "shutdown of the machine"
	askPause       request = "pause"
	askResume      request = "resume"
	askReload      request = "reload"
	askState       request = "state"
)

// state is what the manager is told.
type state struct {
	phase     phase
	reloading bool
	check     uint32        // counts up while something is pending, to show that it goes on
	hint      time.Duration // until the next check at the latest
}

// manager is a service manager, as the loop sees it.
type manager struct {
	requests <-chan request
	report   func(state)               // must not block
	alive    func()                    // called every half of watch; may be nil
	watch    time.Duration             // the manager ends us when alive is not called for so long
	within   map[request]time.Duration // how long a stop may take; none: as the service is configured
	patient  bool                      // running is said when clients are served, not when orders are taken
}

const (
	beat      = time.Second     // between two checkpoints
	hint      = 10 * beat       // a manager that waits longer than this for a checkpoint calls us hung
	grace     = 5 * time.Second // from the end of the time to stop until the watchdog gives up
	firstWord = 20 * time.Second
	maxQueue  = 16 // requests that wait for an earlier one
)

// loop is the conversation between one manager and one service. Only run touches its fields.
type loop struct {
	manager manager
	service Service

	state    state
	controls Controls
	ready    chan Controls
	serves   <-chan struct{} // closed once clients are served, if a patient manager waits for it
	done     chan error      // of Run
	cancel   context.CancelCauseFunc
	giveUp   <-chan time.Time // the watchdog of the stop

	queue []request // that wait for the job under way
	job   request   // under way, "" if none
	ended chan error
}

// talk runs the service and answers its manager until the service has ended.
func talk(ctx context.Context, m manager, s Service) error {
	l := &loop{manager: m, service: s, ready: make(chan Controls, 1), done: make(chan error, 1), ended: make(chan error, 1)}
	body, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	l.cancel = cancel
	l.controls.Log = slog.Default()
	go func() {
		l.done <- s.Run(body, func(c Controls) {
			select {
			case l.ready <- c:
			default: // said before
			}
		})
	}()
	return l.run(ctx)
}

func (l *loop) run(ctx context.Context) error {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	alive, stopAlive := l.pulse()
	defer stopAlive()
	late := time.NewTimer(firstWord)
	defer late.Stop()
	over := ctx.Done()
	l.enter(starting)
	for {
		select {
		case c := <-l.ready:
			l.begin(c)
		case <-l.serves:
			l.started()
		case <-late.C: // the others that wait for us to start must not
			l.started()
		case q := <-l.manager.requests:
			l.hear(q)
		case <-over:
			over = nil
			l.stop(askStop)
		case err := <-l.ended:
			l.finish(err)
		case <-tick.C:
			l.beat()
		case <-alive:
			l.manager.alive()
		case <-l.giveUp:
			l.controls.Log.Error("gave up waiting for the service to stop", "kind", "hung", "stacks", stacks())
			return ErrHung
		case err := <-l.done:
			if l.job == "" {
				return err
			}
			l.done <- err // the job under way uses the service's parts; its end, or the watchdog, brings us back
			l.waitJob()
		}
	}
}

// pulse ticks twice in the time after which the manager ends a service that is silent.
func (l *loop) pulse() (<-chan time.Time, func()) {
	if l.manager.alive == nil || l.manager.watch <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(l.manager.watch / 2)
	return t.C, t.Stop
}

// waitJob waits for the job under way after the service has ended, for as long as a stop may take at most.
func (l *loop) waitJob() {
	select {
	case <-l.ended:
	case <-time.After(grace):
		l.controls.Log.Error("gave up waiting for an order to end", "kind", "hung", "order", string(l.job))
	}
	l.job = ""
}

func (l *loop) enter(p phase) {
	l.state = state{phase: p}
	if p.pending() {
		l.state.check, l.state.hint = 1, hint
	}
	l.manager.report(l.state)
}

func (p phase) pending() bool { return p == starting || p == pausing || p == resuming || p == stopping }

// beat tells the manager that what is pending goes on.
func (l *loop) beat() {
	if l.state.phase.pending() {
		l.state.check++
		l.manager.report(l.state)
	}
}

func (l *loop) begin(c Controls) {
	if c.Log == nil {
		c.Log = l.controls.Log
	}
	l.controls = c
	if l.manager.patient && c.Serves != nil {
		l.serves = c.Serves
		return
	}
	l.started()
}

// started tells the manager that the service runs, if it does not know yet.
func (l *loop) started() {
	l.serves = nil
	if l.state.phase == starting {
		l.enter(running)
	}
	l.next()
}

// hear takes a request. It does not wait for anything.
func (l *loop) hear(q request) {
	switch q {
	case askState:
		l.manager.report(l.state)
	case askStop, askPreShutdown, askShutdown:
		l.stop(q)
	default:
		if l.state.phase != stopping && len(l.queue) < maxQueue {
			l.queue = append(l.queue, q)
			l.next()
		}
	}
}

// stop tells the service to end. A second request to stop shortens the time if it has less.
func (l *loop) stop(q request) {
	within := l.manager.within[q]
	if l.state.phase != stopping {
		l.controls.Log.Info("stopping", "kind", "stopping", "asked", string(q))
		l.enter(stopping)
		l.queue = nil
	}
	l.cancel(&Stopping{Reason: string(q), Within: within})
	bound := within
	if bound == 0 {
		bound = max(l.controls.Longest, time.Second)
	}
	l.giveUp = time.After(bound + grace)
}

// next begins the oldest request that waits, one at a time, once the service takes orders.
func (l *loop) next() {
	for l.job == "" && len(l.queue) > 0 && l.state.phase != starting && l.state.phase != stopping {
		q := l.queue[0]
		l.queue = l.queue[1:]
		do := l.work(q)
		if do == nil {
			l.controls.Log.Warn("the service cannot do this", "asked", string(q))
			continue
		}
		l.job = q
		go func() { l.ended <- guard(do) }()
	}
}

// work is what a request means, and shows the manager that it began.
func (l *loop) work(q request) func() error {
	switch {
	case q == askPause && l.controls.Pause != nil:
		l.enter(pausing)
		return l.controls.Pause
	case q == askResume && l.controls.Resume != nil:
		l.enter(resuming)
		return l.controls.Resume
	case q == askReload && l.controls.Reload != nil:
		l.state.reloading = true
		l.manager.report(l.state)
		return l.controls.Reload
	}
	return nil
}

// afterwards is the phase that a job leads to, when it went well and when it did not.
var afterwards = map[request][2]phase{
	askPause:  {paused, running},
	askResume: {running, paused},
}

// done is the kind of event that an order leads to; a reload tells its own.
var done = map[request]string{askPause: "paused", askResume: "resumed"}

// finish ends the job under way. An order that failed leaves everything as it was.
func (l *loop) finish(err error) {
	q := l.job
	l.job = ""
	if err != nil {
		l.controls.Log.Error("an order of the service manager failed", "kind", "refused", "asked", string(q), "err", err)
	}
	if word := done[q]; err == nil && word != "" {
		l.controls.Log.Info("the service manager's order was carried out", "kind", word)
	}
	l.state.reloading = false
	switch next, moves := afterwards[q]; {
	case l.state.phase == stopping:
	case moves && err == nil:
		l.enter(next[0])
	case moves:
		l.enter(next[1])
	default:
		l.manager.report(l.state)
	}
	l.next()
}

// guard turns a panic of an order into an error: the service goes on.
func guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return do()
}

func stacks() string {
	b := make([]byte, 256<<10)
	return string(b[:runtime.Stack(b, true)])
}
