package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/self"
)

// report ends the trial of this launcher, if it is on one, and says whether it stays.
func (r *renewal) report(ctx context.Context) (stays bool) {
	_, digest, _ := self.Find(r.exe)
	onTrial := false
	err := r.insist(ctx, func() (err error) {
		onTrial, err = r.folder.OnTrial(digest)
		return err
	})
	if !onTrial && ctx.Err() == nil {
		return true // a trial that leads nowhere too
	}
	bounded, cancel := context.WithTimeout(ctx, r.sv.cfg.Launcher.Trial)
	defer cancel()
	if err == nil {
		err = r.works(bounded)
	}
	if err == nil {
		err = r.insist(ctx, func() error { return r.folder.Report(digest) })
	}
	switch {
	case err == nil:
		r.tell("launcher "+version+" has taken over", nil)
		return true
	case ctx.Err() != nil: // stopped; the next start goes on with the trial
	default:
		r.failed = "did not report in: " + err.Error()
		r.tell("the launcher before this one comes back", err)
		close(r.leaving)
	}
	return false
}

// insist repeats what fails because another program has a file open. That is no fault of this launcher, so that it does
// not give up: the guard ends the trial when the files are free and it is over.
func (r *renewal) insist(ctx context.Context, op func() error) error {
	for told := false; ; {
		err := op()
		if !durable.Busy(err) {
			return err
		}
		if !told {
			r.sv.log.Warn("another program has a record of the self-update open", "err", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// works waits until this launcher does all that one is for: the engine has its journal, clients are answered and
// operators too.
func (r *renewal) works(ctx context.Context) error {
	select {
	case <-r.sv.serves():
	case <-ctx.Done():
		return errors.New("no version serves")
	}
	client := control.NewClient(r.sv.cfg.Control.Socket)
	for {
		st, err := client.Status(ctx)
		switch {
		case err != nil:
			err = fmt.Errorf("operators are not answered: %w", err)
		case !r.sv.engine.Status().Saved:
			err = errors.New("the engine does not run")
		case st.Active != nil && st.Health != control.Healthy:
			err = errors.New("the service is not healthy: " + st.Trouble)
		default:
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
