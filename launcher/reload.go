package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// reloads names what a running launcher takes over from a changed file: whole tables, or single keys.
// docs/SERVICE.md has the same table. Everything else decides how processes and sockets were made, and
// counts from the next start.
var reloads = []string{"repository.poll", "health", "probation", "drain", "log"}

func reloadable(key string) bool {
	return slices.ContainsFunc(reloads, func(r string) bool { return key == r || strings.HasPrefix(key, r+".") })
}

// differences lists the keys whose values differ, in order: those that reload, and those that do not.
func differences(old, new Config) (now, later []string) {
	was, is := map[string]string{}, map[string]string{}
	flatten(was, "", treeConfig(reflect.ValueOf(old)))
	flatten(is, "", treeConfig(reflect.ValueOf(new)))
	keys := maps.Clone(was)
	maps.Copy(keys, is)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch {
		case was[key] == is[key]:
		case reloadable(key):
			now = append(now, key)
		default:
			later = append(later, key)
		}
	}
	return now, later
}

// flatten writes a tree as dotted keys with their values as text.
func flatten(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, sub := range v {
			flatten(out, join(path, key), sub)
		}
	case []any:
		for i, sub := range v {
			flatten(out, fmt.Sprintf("%s[%d]", path, i), sub)
		}
	default:
		out[path] = fmt.Sprint(v)
	}
}

// tuned is the configuration as the site goes by it now.
func (s *site) tuned() *Config {
	if c := s.retuned.Load(); c != nil {
		return c
	}
	return &s.cfg
}

// hurry makes every drain from now on fit into the time that the service manager leaves.
func (s *site) hurry(within time.Duration) {
	c := *s.tuned()
	c.Drain = c.Drain.fit(within)
	s.retuned.Store(&c)
}

// fit shortens a drain: a quarter of the time is for the end of processes, the rest for their connections.
func (d DrainConfig) fit(within time.Duration) DrainConfig {
	if max(d.Deadline, d.Stream)+d.Kill <= within {
		return d
	}
	d.Kill = min(d.Kill, within/4)
	d.Deadline = min(d.Deadline, within-d.Kill)
	d.Stream = min(d.Stream, within-d.Kill)
	d.Idle = min(d.Idle, d.Deadline)
	return d
}

// reload reads the configuration file again and goes by what can change while it runs. A file with a mistake
// changes nothing.
func (s *service) reload() error {
	next, err := loadConfig(s.cfg.File)
	if err != nil {
		return fmt.Errorf("the configuration stays as it is: %w", err)
	}
	old := *s.site.tuned()
	now, later := differences(old, next)
	c := old
	c.Repository.Poll, c.Health, c.Probation, c.Drain, c.Log = next.Repository.Poll, next.Health, next.Probation, next.Drain, next.Log
	s.site.retuned.Store(&c)
	s.level.Set(c.Log.Level)
	s.engine.Tune(updater.Tuning{Config: c.Hash(), Poll: c.Repository.Poll, ProbationTime: c.Probation.Time, MinRequests: c.Probation.MinRequests})
	s.log.Info("read the configuration again", "kind", "reloaded", "changed", strings.Join(now, " "), "restart_needed_for", strings.Join(later, " "))
	if len(later) > 0 {
		s.log.Warn("these keys count from the next start: "+strings.Join(later, ", "), "kind", "reloaded")
	}
	return nil
}

// controls is how the service manager gives orders to this launcher. Its pause is an operator's pause of
// updates, so that `launcher status` shows it and both can end it.
func (s *service) controls() host.Controls {
	order := func(kind updater.OrderKind) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			o := updater.Order{Kind: kind}
			if kind == updater.OrderPause {
				o.Reason = "paused through the service manager"
			}
			err := s.engine.Order(ctx, o)
			if errors.Is(err, updater.ErrNothing) { // it is so already
				err = nil
			}
			return err
		}
	}
	return host.Controls{
		Reload: s.reload, Pause: order(updater.OrderPause), Resume: order(updater.OrderResume),
		Longest: s.longest(), Serves: s.serves(), Log: s.log,
	}
}

// serves is closed once clients are answered, and at once if there is no version yet that could answer them:
// nobody's start waits for a download.
func (s *service) serves() <-chan struct{} {
	st, _, err := journal.Read(s.disk, s.cfg.stateFile("journal"))
	if errors.Is(err, journal.ErrEmpty) || err == nil && len(st.Good) == 0 && st.Candidate == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return s.site.serves
}
