package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// defective is a feed whose first check is a broken invariant.
type defective struct {
	updater.Feed
	checks chan int
	n      int
}

func (d *defective) Check(context.Context) (policy.Offers, error) {
	d.n++
	d.checks <- d.n
	if d.n == 1 {
		panic("a defect")
	}
	return policy.Offers{}, errors.New("no route")
}

// A panic of the engine ends neither the launcher nor the service: the operator is told, and the engine runs again.
func TestEnginePanics(t *testing.T) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	j, err := journal.Open(g.sv.disk, filepath.Join(g.dir, "journal"))
	g.must(err)
	g.must(j.Save(updater.State{Phase: journal.Idle, Good: []journal.Version{one}, HighWater: 1}))
	d := &defective{checks: make(chan int)}
	g.sv.engine = updater.New(updater.Parts{Journal: j, Store: g.sv.store, Feed: d, Site: g.site, Notify: g.sv.publish, Log: g.sv.log})
	told := g.follow()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan any, 1)
	go func() {
		defer func() { ended <- recover() }()
		g.sv.update(ctx)
	}()
	defer func() {
		stop()
		if p := <-ended; p != nil {
			t.Errorf("the launcher would have ended: %v", p)
		}
	}()
	for want := 1; want <= 2; want++ {
		select {
		case <-d.checks:
		case p := <-ended:
			ended <- p
			return
		}
		g.answers(one)
	}
	for {
		if e, err := told.Next(); err != nil || e.Kind == "alarm" && e.Err == "panic in the engine: a defect" {
			g.must(err)
			return
		}
	}
}

// follow serves operators and is one who follows.
func (g *ground) follow() *control.Events {
	g.t.Helper()
	address := filepath.Join(g.dir, "control")
	ln, err := control.Listen(address, "")
	g.must(err)
	g.sv.server = control.NewServer(g.sv, g.sv.log)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.sv.server.Serve(ctx, ln) }()
	told, err := control.NewClient(address).Events(ctx)
	g.must(err)
	g.t.Cleanup(func() {
		stop()
		_ = told.Close() // nobody reads on
		if err := <-served; err != nil {
			g.t.Error(err)
		}
	})
	return told
}

// A launcher that has just begun says so, with what the journal says, and not that it is unwell or that nothing is
// installed. Once its engine has looked it says what there is.
func TestStatusOfTheFirstMoment(t *testing.T) {
	for _, tc := range []struct {
		installed bool
		phase     journal.Phase
		active    string
		then      control.Health
	}{
		{true, journal.Idle, "1.0.0", control.Healthy},
		{false, "", "", control.Unhealthy},
	} {
		t.Run("then "+string(tc.then), func(t *testing.T) {
			g := newGround(t, nil)
			j, err := journal.Open(g.sv.disk, filepath.Join(g.dir, "journal"))
			g.must(err)
			if tc.installed {
				g.must(j.Save(updater.State{Phase: journal.Idle, Good: []journal.Version{g.release("1.0.0", "")}, HighWater: 1}))
			}
			d := &defective{checks: make(chan int, 100), n: 1}
			g.sv.site, g.sv.feed = g.site, &feed{}
			g.sv.engine = updater.New(updater.Parts{Journal: j, Store: g.sv.store, Feed: d, Site: g.site})
			st, active := g.sv.Status(), ""
			if st.Active != nil {
				active = st.Active.Number
			}
			if st.Health != control.Starting || st.Phase != tc.phase || active != tc.active {
				t.Errorf("%s, in phase %q with %q", st.Health, st.Phase, active)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- g.sv.engine.Run(ctx) }()
			g.until(string(tc.then), func() bool { st := g.sv.Status(); return st.Health == tc.then && st.Phase == journal.Idle })
			stop()
			<-ended
		})
	}
}
