package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// Targets.
const (
	rssMost  = 25.0 // MB
	cpuMost  = 0.1  // percent of a core
	sizeMost = 15.0 // MiB
)

// idle measures a launcher that has installed a version and waits for the next, with the times of production.
func (b *bench) idle(ctx context.Context) (err error) {
	info, err := os.Stat(b.programs.Launcher)
	if err != nil {
		return err
	}
	b.atMost(sizeMost, "the launcher's file, stripped", float64(info.Size())/(1<<20), "MiB", "")
	good, err := b.newLine(ctx, "")
	if err != nil {
		return err
	}
	s, err := b.serve(ctx, good, stage.Options{Config: map[string]string{"health": "", "drain": "", "probation": "time = \"1s\"\n"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	stage.Wait(ctx, 5*time.Second) // the installation is not idleness
	before, err := cpuOf(s.PID())
	if err != nil {
		return err
	}
	begun, span := time.Now(), time.Duration(b.runs(60, 5))*time.Second
	stage.Wait(ctx, span)
	after, err := cpuOf(s.PID())
	if err != nil {
		return err
	}
	share := 100 * (after - before).Seconds() / time.Since(begun).Seconds()
	b.atMost(cpuMost, "CPU while idle", share, "% of a core", fmt.Sprintf("%s in %s, a poll a minute", (after-before).Round(100*time.Microsecond), span))
	rss, err := rssOf(s.PID())
	if err != nil {
		return err
	}
	b.atMost(rssMost, "RSS while idle", float64(rss)/1e6, "MB", "after it installed a version")
	return nil
}

// cpuOf is the time that the threads of some processes have run, as the kernel's scheduler counts it: in
// nanoseconds, where /proc/PID/stat has ticks of 10 ms.
func cpuOf(pids ...int) (sum time.Duration, err error) {
	var files []string
	for _, pid := range pids {
		own, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || len(own) == 0 {
			return 0, fmt.Errorf("no scheduler's account of process %d: %w", pid, errors.Join(err, os.ErrNotExist))
		}
		files = append(files, own...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// rssOf is the resident memory of a process in bytes.
func rssOf(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "VmRSS:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kB << 10, err
		}
	}
	return 0, errors.New("no VmRSS in the status of the process")
}
