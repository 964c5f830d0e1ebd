package main

import (
	"fmt"
	"os"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/self"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// openRenewal ends what an earlier trial left behind. What is wrong with self-updates keeps nobody from serving.
func openRenewal(s *service) *renewal {
	r := &renewal{sv: s, folder: launchers(s.cfg.stateFile(selfFolder)), orders: make(chan policy.Release), leaving: make(chan struct{})}
	if r.lost = r.find(); r.lost == nil {
		if err := r.settle(); err != nil { // it is tried again before the next trial
			s.log.Warn("what an earlier self-update left behind stays", "err", err)
		}
	}
	if _, err := r.channel(); err != nil {
		s.log.Error("the launcher cannot update itself", "err", err)
	}
	return r
}

// channel opens the launchers' channel if that is not done yet: another program may have held its folder. It is nil
// where none is configured.
func (r *renewal) channel() (*feed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.feed != nil || r.sv.cfg.Launcher.Channel == "" || r.lost != nil {
		return r.feed, r.lost
	}
	own := r.sv.cfg // the same repository and root, the launchers' channel, and a trust folder of its own
	own.State.Dir, own.Repository.Channel = r.folder.Dir(), own.Launcher.Channel
	if err := durable.MkdirAll(r.sv.disk, own.State.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := openFeed(r.sv.disk, own)
	if err != nil {
		return nil, err
	}
	f.source.Repository = r.sv.feed.source.Repository // repository.max_rate is for both
	// As enclose does with the other trust folder.
	if err := r.sv.disk.Chmod(own.stateFile("trust"), 0o700); err != nil {
		return nil, err
	}
	r.feed = f
	return f, nil
}

func (r *renewal) find() (err error) {
	if r.exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find the launcher's own file: %w", err)
	}
	r.link, err = host.Registered(r.sv.cfg.Product)
	return err
}

// settle ends what an earlier trial left behind.
func (r *renewal) settle() error {
	_, digest, _ := self.Find(r.exe)
	return r.folder.Settle(digest)
}
