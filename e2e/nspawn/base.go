package nspawn

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// include is what the base system has beside the packages that every Debian has.
const include = "systemd,systemd-sysv,dbus"

// Account is a user of every machine that has no rights.
const Account = "acme"

// finish is done once to the base, inside it: an account for payloads, a journal that survives reboots,
// and nothing that only costs time to copy.
const finish = `set -e
useradd --system --user-group --shell /usr/sbin/nologin ` + Account + `
mkdir -p /var/log/journal /etc/systemd/journald.conf.d
printf '[Journal]\nRateLimitIntervalSec=0\nSyncIntervalSec=1s\n' > /etc/systemd/journald.conf.d/test.conf
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty@.service console-getty.service
rm -rf /var/cache/apt /var/lib/apt/lists /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info
`

// makeLimit bounds the making of the base: half a minute is usual, a slow mirror takes longer.
const makeLimit = 10 * time.Minute

// ensureBase returns the root of the base system, which it makes if the cache has none.
func ensureBase(ctx context.Context) (string, error) {
	if os.Geteuid() != 0 {
		return "", fmt.Errorf("%w: this is not root", ErrUnavailable)
	}
	for _, program := range []string{"systemd-nspawn", "debootstrap", "nsenter", "unshare", "setpriv", "apt-get"} {
		if _, err := exec.LookPath(program); err != nil {
			return "", fmt.Errorf("%w: %w: install the packages debootstrap and systemd-container", ErrUnavailable, err)
		}
	}
	suite, mirror, err := mirror(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	key := sha256.Sum256([]byte(suite + include + finish))
	base := filepath.Join(cache, "turnstone", "nspawn", suite+"-"+hex.EncodeToString(key[:4]))
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return "", err
	}
	lock, err := lockCache(ctx, filepath.Dir(base)+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(base); err == nil {
		return base, nil
	}
	if err := makeBase(ctx, base, suite, mirror); err != nil {
		return "", fmt.Errorf("%w: make the base system: %w", ErrUnavailable, err)
	}
	return base, nil
}

// lockCache waits for whoever makes the base at this moment.
func lockCache(ctx context.Context, name string) (*durable.LockFile, error) {
	ctx, cancel := context.WithTimeout(ctx, makeLimit)
	defer cancel()
	for {
		l, err := durable.Lock(name)
		if !errors.Is(err, durable.ErrLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// makeBase makes the base beside its place and moves it there when it is whole. debootstrap mounts file
// systems into it, so it works in a mount namespace of its own, which forgets them whatever happens.
func makeBase(ctx context.Context, base, suite, mirror string) error {
	ctx, cancel := context.WithTimeout(ctx, makeLimit)
	defer cancel()
	part := base + ".part"
	if err := removeTree(part); err != nil {
		return err
	}
	own := []string{"unshare", "--mount", "--propagation", "private", "--"}
	if err := command(ctx, append(own, "debootstrap", "--variant=minbase", "--include="+include, suite, part, mirror)...); err != nil {
		return err
	}
	if err := command(ctx, append(own, "chroot", part, "/bin/sh", "-c", finish)...); err != nil {
		return err
	}
	return os.Rename(part, base)
}

// mirror is the release of this machine and the place from which it has its packages itself.
func mirror(ctx context.Context) (suite, uri string, err error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(release)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			suite = strings.Trim(v, `"`)
		}
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", "", fmt.Errorf("ask apt for its mirror: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && suite != "" && f[0] == suite && f[1] == "main" {
			return suite, f[2], nil
		}
	}
	return "", "", fmt.Errorf("apt has no mirror of %q: only Debian and its relatives can make the base system", suite)
}
