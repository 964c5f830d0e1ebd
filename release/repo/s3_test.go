package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/turnstone-go/turnstone/release/repo"
)

// objects is an object store in this process. It heeds conditions, atomically; credentials it does not check,
// which is why e2e has a real server too.
func objects(t *testing.T) http.Handler {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "publisher")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	return gofakes3.New(backend).Server()
}

// through returns a Store that reaches the objects through its own gate, as one of several publishers.
func through(t *testing.T, gate http.Handler) repo.Store {
	t.Helper()
	server := httptest.NewServer(gate)
	t.Cleanup(server.Close)
	s, err := repo.S3("bucket/agent?region=us-east-1&endpoint=" + server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3Publish(t *testing.T) {
	dst := through(t, objects(t))
	report := publish(t, dst, files(1))
	if want := []string{"artifacts/aa", "metadata/1.stable.json", repo.Pointer}; !slices.Equal(report.Written, want) {
		t.Errorf("wrote %v, want %v", report.Written, want)
	}
	if report = publish(t, dst, files(1)); len(report.Written) != 0 || report.Same != 3 {
		t.Errorf("a second time wrote %v", report.Written)
	}
	if report = publish(t, dst, files(2)); !slices.Equal(report.Written, []string{"metadata/2.stable.json", repo.Pointer}) {
		t.Errorf("then wrote %v", report.Written)
	}
	for _, f := range files(2) {
		if err := same(dst, f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if _, err := dst.Get(t.Context(), "metadata/9.stable.json", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is missing: %v", err)
	}
	if _, err := dst.Get(t.Context(), repo.Pointer, 4); !errors.Is(err, repo.ErrTooLong) {
		t.Errorf("a file longer than allowed: %v", err)
	}
}

// A file that changes while its last bytes are read, sent whole or in parts.
func TestS3SourceThatChanged(t *testing.T) {
	dst := through(t, objects(t))
	for _, sizeBytes := range []int{100, 32 << 20} {
		data := strings.Repeat("a", sizeBytes)
		changed := repo.Bytes("artifacts/changed", []byte(data))
		changed.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data[1:] + "b")), nil }
		if _, err := repo.Publish(t.Context(), dst, []repo.File{changed}); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
			t.Errorf("%d bytes: %v", sizeBytes, err)
		}
		if _, _, err := dst.Open(t.Context(), changed.Name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d bytes were published: %v", sizeBytes, err)
		}
	}
}

// What was uploaded by another tool has no digest of ours and is read.
func TestS3ForeignObject(t *testing.T) {
	for _, data := range []string{"the same bytes", "other bytes!!!"} {
		server := objects(t)
		dst := through(t, server)
		r := httptest.NewRequest(http.MethodPut, "/bucket/agent/artifacts/aa", strings.NewReader(data))
		r.Header.Set("Content-Length", strconv.Itoa(len(data)))
		server.ServeHTTP(httptest.NewRecorder(), r)
		_, err := repo.Publish(t.Context(), dst, files(1))
		if want := data != "the same bytes"; errors.Is(err, repo.ErrConflict) != want || !want && err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// rival is what one of two publishers brings who both began from files(1). Both have a version 2 of stable,
// and a channel that the other has not.
func rival(n int) []repo.File {
	return []repo.File{
		repo.Bytes(fmt.Sprintf("artifacts/b%d", n), fmt.Appendf(nil, "artifact of %d", n)),
		repo.Bytes(fmt.Sprintf("metadata/2.own%d.json", n), fmt.Appendf(nil, "own %d", n)),
		repo.Bytes("metadata/2.stable.json", fmt.Appendf(nil, "stable of rival %d", n)),
		repo.Bytes(repo.Pointer, fmt.Appendf(nil, "points to rival %d", n)),
	}
}

// apart is a rival that shares no name with another but the pointer.
func apart(n int) []repo.File {
	return slices.DeleteFunc(rival(n), func(f repo.File) bool { return f.Name == "metadata/2.stable.json" })
}

// Two publishers at the same time: before and after each request of one the other does all of its work. One
// of them wins and the other is told, and what readers see is whole at any time.
func TestS3TwoPublishers(t *testing.T) {
	for name, files2 := range map[string]func(int) []repo.File{"with a name in common": rival, "apart": apart} {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, answered %v", name, answered), func(t *testing.T) {
				outcomes := map[string]int{}
				for step := 0; interleave(t, files2, step, answered, outcomes); step++ {
				}
				if outcomes["first"] == 0 || outcomes["second"] == 0 {
					t.Errorf("outcomes %v: each must win some", outcomes)
				}
			})
		}
	}
}

// interleave lets the second publisher work at one step of the first, and says whether there was such a step.
func interleave(t *testing.T, brings func(int) []repo.File, step int, answered bool, outcomes map[string]int) bool {
	server := objects(t)
	second := through(t, server)
	publish(t, second, files(1))
	var err2 error
	count, met, looked, inTurn := 0, false, false, false // inTurn: one after the other
	first := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := count == step
		count++
		pointer := strings.HasSuffix(r.URL.Path, repo.Pointer)
		if answered {
			server.ServeHTTP(w, r)
			looked = looked || pointer
		}
		if now {
			met, inTurn = true, !looked || pointer && r.Method == http.MethodPut && answered
			_, err2 = repo.Publish(context.Background(), second, brings(2))
			whole(t, second, brings)
		}
		if !answered {
			server.ServeHTTP(w, r)
			looked = looked || pointer
		}
		whole(t, second, brings)
	}))
	_, err1 := repo.Publish(t.Context(), first, brings(1))
	if !met {
		return false
	}
	if err1 == nil && err2 == nil && !inTurn {
		t.Fatalf("step %d: both were told that they had published", step)
	}
	for _, err := range []error{err1, err2} {
		if err != nil && !errors.Is(err, repo.ErrBusy) && !errors.Is(err, repo.ErrConflict) {
			t.Fatalf("step %d: %v", step, err)
		}
	}
	switch winner := read(t, second, repo.Pointer); {
	case winner == "points to rival 1" && err1 == nil:
		outcomes["first"]++
	case winner == "points to rival 2" && err2 == nil:
		outcomes["second"]++
	default:
		t.Fatalf("step %d: the pointer says %q; %v; %v", step, winner, err1, err2)
	}
	return true
}

// whole is a reader: what the pointer stands for is there.
func whole(t *testing.T, s repo.Store, brings func(int) []repo.File) {
	t.Helper()
	all := map[string][]repo.File{"points to 1": files(1), "points to rival 1": brings(1), "points to rival 2": brings(2)}
	pointer := read(t, s, repo.Pointer)
	if all[pointer] == nil {
		t.Fatalf("the pointer says %q", pointer)
	}
	for _, f := range all[pointer] {
		if err := same(s, f); err != nil {
			t.Fatalf("the pointer says %q, and %s: %v", pointer, f.Name, err)
		}
	}
}

// Two who publish the same files at the same time are both right.
func TestS3TwoOfTheSame(t *testing.T) {
	server := objects(t)
	dst := through(t, server)
	publish(t, dst, files(1))
	var group sync.WaitGroup
	for range 4 {
		own := through(t, server)
		group.Go(func() {
			if _, err := repo.Publish(context.Background(), own, files(2)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := read(t, dst, repo.Pointer); got != "points to 2" {
		t.Errorf("the pointer says %q", got)
	}
}

// The publisher is cut at every request, before or after the server has done what it asks for.
func TestS3CutAnywhere(t *testing.T) {
	for _, done := range []bool{false, true} {
		found := map[string]int{}
		for step := 0; cutAt(t, step, done, found); step++ {
		}
		if found["points to 1"] == 0 || done && found["points to rival 1"] == 0 {
			t.Errorf("done %v: the cuts left %v", done, found)
		}
	}
}

func cutAt(t *testing.T, step int, done bool, found map[string]int) bool {
	server := objects(t)
	reader := through(t, server)
	publish(t, reader, files(1))
	ctx, cut := context.WithCancel(t.Context())
	defer cut()
	count := 0
	dst := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count++
		if count <= step {
			server.ServeHTTP(w, r)
			return
		}
		if done && count == step+1 {
			server.ServeHTTP(httptest.NewRecorder(), r) // the answer is lost
		}
		cut()
		panic(http.ErrAbortHandler)
	}))
	_, err := repo.Publish(ctx, dst, rival(1))
	if err == nil {
		return false
	}
	whole(t, reader, rival)
	found[read(t, reader, repo.Pointer)]++
	publish(t, reader, rival(1))
	if got := read(t, reader, repo.Pointer); got != "points to rival 1" {
		t.Fatalf("step %d: published again, the pointer says %q", step, got)
	}
	return true
}

// A server that ignores conditions is found out before anything is written.
func TestS3WithoutConditions(t *testing.T) {
	for _, header := range []string{"If-None-Match", "If-Match"} {
		server := objects(t)
		reader := through(t, server)
		dst := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del(header)
			server.ServeHTTP(w, r)
		}))
		if _, err := repo.Publish(t.Context(), dst, files(1)); !errors.Is(err, repo.ErrUnconditional) {
			t.Errorf("without %s: %v", header, err)
		}
		if _, _, err := reader.Open(t.Context(), "artifacts/aa"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s something was written: %v", header, err)
		}
		publish(t, reader, files(1))
	}
}

// A server that keeps files may have none for a moment where another publisher's write was refused.
func TestS3WriteWithoutAFolder(t *testing.T) {
	server := objects(t)
	var without atomic.Int32
	dst := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/metadata/1.stable.json") && without.Add(1) <= 2 {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
			return
		}
		server.ServeHTTP(w, r)
	}))
	publish(t, dst, files(1))
	if n := without.Load(); n != 3 {
		t.Errorf("written at try %d", n)
	}
}

func TestS3Addresses(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "publisher")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	for _, bad := range []string{
		"", "/prefix", "bucket?endpoint=ftp://host", "bucket?endpoint=host", "bucket?endpoint=https://user:word@host",
		"bucket?endpoint=https://host/path", "bucket?key=secret", "bucket?region=a&region=b", "bucket/../other", "bucket?%zz",
	} {
		if _, err := repo.S3(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		} else if strings.Contains(err.Error(), "word") {
			t.Errorf("%q: the password is in the error: %v", bad, err)
		}
	}
	for _, good := range []string{"bucket", "bucket/", "bucket/a/b/", "bucket/Agents?region=eu-west-1", "bucket?endpoint=http://127.0.0.1:9000"} {
		if _, err := repo.S3(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// Credentials come from the environment or the shared file, and their absence is told at once.
func TestS3Credentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	nobody := httptest.NewServer(http.NotFoundHandler()) // in place of the machine's metadata service
	defer nobody.Close()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", nobody.URL)
	_, err := repo.S3("bucket")
	if !errors.Is(err, repo.ErrCredentials) || !strings.Contains(err.Error(), "set AWS_ACCESS_KEY_ID") && !strings.Contains(err.Error(), "Set AWS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v", err)
	}
	shared := filepath.Join(home, "shared")
	if err := os.WriteFile(shared, []byte("[ci]\naws_access_key_id = publisher\naws_secret_access_key = secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", shared)
	t.Setenv("AWS_PROFILE", "ci")
	if _, err := repo.S3("bucket"); err != nil {
		t.Errorf("with a shared file: %v", err)
	}
}

// What the server says about credentials and buckets is said with what to do.
func TestS3Refusals(t *testing.T) {
	for code, want := range map[string]string{
		"InvalidAccessKeyId": "AWS_ACCESS_KEY_ID", "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY",
		"AccessDenied": "s3:PutObject", "NoSuchBucket": "make it first",
	} {
		_ = objects(t)
		dst := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
		}))
		_, err := repo.Publish(t.Context(), dst, files(1))
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, repo.ErrCredentials) == (code == "NoSuchBucket") {
			t.Errorf("%s: %v", code, err)
		}
	}
}
