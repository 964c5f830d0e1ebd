package main

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
)

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("not root: cannot be another account")
	}
	t.Skip("not root: cannot be another account")
}

// Whoever can write what the launcher goes by owns it.
func TestConfigOfOthers(t *testing.T) {
	asRoot(t)
	dir, config := install(t)
	for _, name := range []string{config, filepath.Join(dir, "root.json")} {
		if err := os.Chmod(name, 0o666); err != nil {
			t.Fatal(err)
		}
		code, _, errs := cli(t, config, "run")
		if code != control.NotPrepared || !strings.Contains(errs, "chmod go-w "+name) {
			t.Errorf("%d %q", code, errs)
		}
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A group that nobody knows at the moment, as one of a domain that does not answer yet, keeps nothing from being
// served: administrators alone may connect.
func TestUnknownReadGroupServes(t *testing.T) {
	_, config := install(t)
	write(t, config, smallest+"[payload]\nuser = \"same\"\n[control]\nread_group = \"nobody-has-this\"\n")
	cfg, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.checkReaders() == nil {
		t.Error("config check is silent")
	}
	var told strings.Builder
	s := &service{cfg: cfg, disk: durable.OS(), log: slog.New(slog.NewTextHandler(&told, nil))}
	if err := errors.Join(cfg.checkMachine(), s.folders()); err != nil {
		t.Fatal(err)
	}
	ln, err := s.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if st, err := os.Stat(cfg.Control.Socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if !strings.Contains(told.String(), "nobody-has-this") {
		t.Errorf("nobody is told: %s", told.String())
	}
}

// A member of read_group reaches the operators' socket in the state folder, and nothing else there.
func TestReadGroupReachesTheSocket(t *testing.T) {
	asRoot(t)
	dir, config := install(t)
	group, err := user.LookupGroup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	write(t, config, smallest+"[payload]\nuser = \"same\"\n[control]\nread_group = \"daemon\"\n")
	cfg, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{cfg: cfg, disk: durable.OS()}
	for _, name := range []string{"trust", "store"} {
		if err := os.Mkdir(cfg.stateFile(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), s.folders(), s.enclose()); err != nil {
		t.Fatal(err)
	}
	ln, err := control.Listen(cfg.Control.Socket, cfg.Control.ReadGroup)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	can := func(gid int, test ...string) bool {
		cmd := exec.Command("/usr/bin/test", test...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: uint32(gid)}}
		return cmd.Run() == nil
	}
	if !can(gid, "-w", cfg.Control.Socket) || can(65534, "-e", cfg.Control.Socket) {
		t.Error("the group cannot reach the socket, or others can")
	}
	for _, name := range []string{"", "trust", "store", "data"} {
		if can(gid, "-r", cfg.stateFile(name)) || can(gid, "-w", cfg.stateFile(name)) {
			t.Errorf("%q is open to the group", name)
		}
	}
}
