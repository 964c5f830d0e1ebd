package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// gateway is an S3 server that nobody here wrote, with signatures, multipart uploads and conditional writes. Its
// buckets are folders, so that what it holds can be read without it. It is far too large to be a module of ours.
const gateway = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// objectStore is one running gateway.
type objectStore struct {
	folder   string // the buckets are folders below
	endpoint string
}

const s3Key, s3Secret = "publisher", "not-a-secret-of-anybody"

// serveObjects builds the gateway, runs it with one bucket, and ends it with the test.
func serveObjects(t *testing.T) objectStore {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // it is compiled once for each build cache
	defer cancel()
	bin := t.TempDir()
	install := exec.CommandContext(ctx, "go", "install", gateway)
	install.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("install the S3 server: %v\n%s", err, out)
		}
		t.Skipf("the S3 server cannot be built here: %v\n%s", err, out)
	}
	o := objectStore{folder: t.TempDir()}
	if err := os.Mkdir(filepath.Join(o.folder, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	address, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	o.endpoint = "http://" + address
	cmd := exec.Command(filepath.Join(bin, "versitygw"), "--quiet", "--port", address, "posix", "--sidecar", t.TempDir(), o.folder)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s3Key, "ROOT_SECRET_ACCESS_KEY="+s3Secret)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has nothing to put in order
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the S3 server's log:\n%s", log.String())
		}
	})
	for range 600 {
		if r, err := http.Get(o.endpoint); err == nil {
			_ = r.Body.Close()
			return o
		}
		stage.Wait(t.Context(), 50*time.Millisecond)
	}
	t.Fatal("the S3 server does not answer")
	return o
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func (o objectStore) at(prefix string) string {
	return "s3:bucket/" + prefix + "?region=us-east-1&endpoint=" + o.endpoint
}

// releases runs the release tool with the given secret and returns what it printed and its exit code.
func releases(product, secret string, args ...string) (string, int) {
	cmd := exec.Command(programs.Release, append([]string{"--dir", product}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + product, "TMPDIR=" + os.TempDir(),
		"AWS_ACCESS_KEY_ID=" + s3Key, "AWS_SECRET_ACCESS_KEY=" + secret}
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func mustRelease(t *testing.T, code int, product string, args ...string) string {
	t.Helper()
	out, got := releases(product, s3Secret, args...)
	if got != code {
		t.Fatalf("release %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// A repository is published to a real S3 server, with a program of several parts, and is right there; again it
// is nothing to do; and who may not write is told what to set.
func TestS3Server(t *testing.T) {
	o := serveObjects(t)
	product := t.TempDir()
	mustRelease(t, 0, product, "init", stage.Product, "--channel", "stable")
	large := filepath.Join(t.TempDir(), "program")
	data := make([]byte, 40<<20)
	_, _ = rand.Read(data) // it never fails
	if err := os.WriteFile(large, data, 0o755); err != nil {
		t.Fatal(err)
	}
	mustRelease(t, 0, product, "add", "1.0.0", "--platform", "linux/amd64="+large)
	mustRelease(t, 0, product, "publish", "--to", o.at("one"))
	mustRelease(t, 0, product, "verify", filepath.Join(o.folder, "bucket", "one"))
	says(t, mustRelease(t, 0, product, "verify", o.at("one")), "1.0.0 for linux/amd64, offered", "signatures, digests and dates are right")
	says(t, mustRelease(t, 3, product, "publish", "--to", o.at("one")), "has all of it already")

	for _, args := range [][]string{{"publish", "--to", o.at("one")}, {"verify", o.at("one")}} {
		out, code := releases(product, "wrong", args...)
		if code != 13 || !strings.Contains(out, "AWS_SECRET_ACCESS_KEY") {
			t.Errorf("%s with a wrong secret: exit code %d\n%s", args[0], code, out)
		}
	}
	mustRelease(t, 12, product, "verify", o.at("two")) // nothing is there
	if out := mustRelease(t, 1, product, "publish", "--to", "s3:nowhere?region=us-east-1&endpoint="+o.endpoint); !strings.Contains(out, "make it first") {
		t.Errorf("without the bucket:\n%s", out)
	}
	t.Run("two publishers", func(t *testing.T) { twoPublishers(t, o) })
}

// twoPublishers has two copies of one product publish at the same moment, again and again, while a client reads.
func twoPublishers(t *testing.T, o objectStore) {
	base := t.TempDir()
	mustRelease(t, 0, base, "init", stage.Product, "--channel", "stable")
	one := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(one, []byte("one"), 0o755); err != nil {
		t.Fatal(err)
	}
	mustRelease(t, 0, base, "add", "1.0.0", "--platform", "linux/amd64="+one)
	for round := range 5 {
		prefix := fmt.Sprintf("round-%d", round)
		public := filepath.Join(o.folder, "bucket", prefix)
		mustRelease(t, 0, base, "publish", "--to", o.at(prefix))
		var rivals []string
		for i := range 2 {
			rival := filepath.Join(t.TempDir(), "product")
			if err := os.CopyFS(rival, os.DirFS(base)); err != nil {
				t.Fatal(err)
			}
			private(t, filepath.Join(rival, "keys"))
			mustRelease(t, 0, rival, "add", fmt.Sprintf("1.%d.0", i+1), "--platform", "linux/amd64="+one)
			rivals = append(rivals, rival)
		}
		codes := race(t, o.at(prefix), rivals, func() { mustRelease(t, 0, base, "verify", public) })
		if codes[0]+codes[1] != 13 || codes[0]*codes[1] != 0 {
			t.Errorf("round %d: exit codes %v: one must win and the other be refused", round, codes)
		}
		winner := rivals[0]
		if codes[0] != 0 {
			winner = rivals[1]
		}
		mustRelease(t, 3, winner, "publish", "--to", o.at(prefix))
	}
}

// race publishes from all folders at once, calls read until all have ended and once more, and returns the codes.
func race(t *testing.T, to string, folders []string, read func()) []int {
	t.Helper()
	codes, outs := make([]int, len(folders)), make([]string, len(folders))
	var group sync.WaitGroup
	for i, folder := range folders {
		group.Go(func() { outs[i], codes[i] = releases(folder, s3Secret, "publish", "--to", to) })
	}
	ended := make(chan struct{})
	go func() { group.Wait(); close(ended) }()
	for open := true; open; {
		select {
		case <-ended:
			open = false
		default:
		}
		read()
	}
	for i, out := range outs {
		if codes[i] != 0 && codes[i] != 13 {
			t.Errorf("exit code %d: %s", codes[i], out)
		}
	}
	return codes
}

// private gives copied keys the mode that they must have.
func private(t *testing.T, keys string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(keys, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Chmod(f, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
