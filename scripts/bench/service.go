package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
)

// anyVersion is the version that the example is built with here, as long as every one that it is made into.
const anyVersion = "9.999.9"

// line is a series of releases made of one build: each copy has a version of its own in it, and so its own
// digest.
type line struct {
	dir   string
	build []byte
	ext   string // of a program where it runs
}

// newLine builds the example with a fault, "" for none.
func (b *bench) newLine(ctx context.Context, fault string) (*line, error) {
	file, err := b.programs.Example(ctx, anyVersion, fault)
	if err != nil {
		return nil, err
	}
	build, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(build, []byte(anyVersion)) {
		return nil, errors.New("the version is not to be found in the built example")
	}
	return &line{dir: b.programs.Dir, build: build, ext: filepath.Ext(b.programs.Launcher)}, nil
}

// version is the number of the n-th release of a service.
func version(n int) string { return fmt.Sprintf("1.%03d.0", 100+n) }

// release writes the program of a version and returns its path.
func (l *line) release(version string) (string, error) {
	if len(version) != len(anyVersion) {
		panic("bench: the version " + version + " does not fit into the build")
	}
	file := filepath.Join(l.dir, "example-"+version+l.ext)
	return file, os.WriteFile(file, bytes.ReplaceAll(l.build, []byte(anyVersion), []byte(version)), 0o755)
}

// service is a stage whose launcher serves the example, and all that the launcher says.
type service struct {
	*stage.Stage
	machine *stage.Machine // of its own, on Windows
	good    *line
	told    *record
	last    int // release published
}

// serve starts a launcher on the first release of good.
func (b *bench) serve(ctx context.Context, good *line, o stage.Options) (*service, error) {
	s := &service{good: good, last: -1}
	var err error
	if b.windows {
		s.machine, err = b.programs.Boot(ctx)
		o.Machine, o.Service = s.machine, true
	}
	if err == nil {
		s.Stage, err = stage.New(ctx, b.programs, o)
	}
	if err == nil {
		_, err = s.publish(ctx, good)
	}
	if err == nil {
		err = s.Launch(ctx)
	}
	if err == nil {
		err = s.Serving(ctx, version(0))
	}
	if err == nil {
		s.told, err = follow(ctx, s.Client())
	}
	if err == nil && b.windows {
		err = b.prove(ctx, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// prove says in which mode the traffic flows, by the processes that have to do with it.
func (b *bench) prove(ctx context.Context, s *service) error {
	p, err := s.Prove(ctx)
	if err == nil {
		b.say("%s", p)
	}
	return err
}

func (s *service) close() (err error) {
	if s.Stage != nil {
		err = s.Close()
	}
	if s.told != nil {
		s.told.close()
	}
	if s.machine != nil {
		err = errors.Join(err, s.machine.Close())
	}
	return err
}

// publish makes the next version of a line a release of the service.
func (s *service) publish(ctx context.Context, l *line) (string, error) {
	v := version(s.last + 1)
	file, err := l.release(v)
	if err == nil {
		err = s.Publish(ctx, v, file)
	}
	if err != nil {
		return "", err
	}
	s.last++
	return v, os.Remove(file)
}

// update orders the update to the version that is offered and returns the history's account of it.
func (s *service) update(ctx context.Context, v string) (control.Record, error) {
	mark := s.told.mark()
	if err := s.Client().Order(ctx, "update", control.Request{Version: v, Now: true}); err != nil {
		return control.Record{}, fmt.Errorf("order the update to %s: %w\n%s", v, err, s.Log())
	}
	_, err := s.told.wait(ctx, mark, func(e updater.Event) bool { return e.Kind == "end" && e.Number == v })
	if err != nil {
		return control.Record{}, fmt.Errorf("update to %s: %w\n%s", v, err, s.Log())
	}
	last, err := s.Client().History(ctx, 1)
	if err == nil && (len(last) == 0 || last[0].To != v) {
		err = fmt.Errorf("the history does not end with %s: %+v", v, last)
	}
	if err != nil {
		return control.Record{}, err
	}
	return last[0], nil
}

// settled waits until at most that many old versions drain.
func (s *service) settled(ctx context.Context, draining int) error {
	for range 6000 {
		st, err := s.Client().Status(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, p := range st.Processes {
			if p.State == "draining" {
				n++
			}
		}
		if n <= draining {
			return nil
		}
		stage.Wait(ctx, 10*time.Millisecond)
	}
	return fmt.Errorf("old versions do not end\n%s", s.Log())
}

// record keeps every event of a launcher.
type record struct {
	source *control.Events
	ended  chan struct{}

	mu     sync.Mutex
	events []updater.Event
	more   chan struct{} // closed and replaced at each event
	hook   func(updater.Event)
}

// waitLimit bounds the wait for one event.
const waitLimit = time.Minute

func follow(ctx context.Context, c *control.Client) (*record, error) {
	source, err := c.Events(ctx)
	if err != nil {
		return nil, err
	}
	r := &record{source: source, ended: make(chan struct{}), more: make(chan struct{})}
	go r.run()
	return r, nil
}

func (r *record) run() {
	defer close(r.ended)
	for {
		e, err := r.source.Next()
		if err != nil {
			return // the launcher stopped, or close
		}
		r.mu.Lock()
		r.events = append(r.events, e)
		close(r.more)
		r.more = make(chan struct{})
		hook := r.hook
		r.mu.Unlock()
		if hook != nil {
			hook(e)
		}
	}
}

// each calls f for every event from now on, as it comes.
func (r *record) each(f func(updater.Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = f
}

// mark is a place to wait from.
func (r *record) mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.events)
}

// wait returns the first event after mark that is wanted.
func (r *record) wait(ctx context.Context, mark int, wanted func(updater.Event) bool) (updater.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		r.mu.Lock()
		events, more := r.events[mark:], r.more
		r.mu.Unlock()
		for _, e := range events {
			if wanted(e) {
				return e, nil
			}
		}
		mark += len(events)
		select {
		case <-more:
		case <-r.ended:
			return updater.Event{}, errors.New("the launcher tells no more")
		case <-ctx.Done():
			return updater.Event{}, ctx.Err()
		}
	}
}

// all returns the events that are wanted.
func (r *record) all(wanted func(updater.Event) bool) []updater.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []updater.Event
	for _, e := range r.events {
		if wanted(e) {
			list = append(list, e)
		}
	}
	return list
}

func (r *record) close() {
	_ = r.source.Close() // the stream has no other end
	<-r.ended
}
