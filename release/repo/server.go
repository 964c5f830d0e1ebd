package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

// hashLimit bounds the files whose ETag is a digest of their bytes. All metadata is far below it.
const hashLimit = 1 << 20

var (
	artifactName = regexp.MustCompile(`^artifacts/[0-9a-f]{64}$`)
	versionName  = regexp.MustCompile(`^metadata/[0-9]+\.`)
)

// Handler serves the folder that root was opened on: GET and HEAD, ranges, strong ETags. Names that a
// repository cannot have, names that begin with a dot and folders are not found, and a symbolic link that
// leads out of the folder is not followed. More than 0 bytesPerSecond slows every answer to that rate.
func Handler(root *os.Root, bytesPerSecond int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "a repository is only read", http.StatusMethodNotAllowed)
			return
		}
		err := serve(w, r, root, bytesPerSecond)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			http.NotFound(w, r)
		case err != nil:
			http.Error(w, "this file cannot be read", http.StatusInternalServerError)
		}
	})
}

// serve answers from one open file, so that a file replaced meanwhile does not mix with the answer.
func serve(w http.ResponseWriter, r *http.Request, root *os.Root, bytesPerSecond int64) error {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if checkName(name) != nil {
		return fs.ErrNotExist
	}
	f, err := root.Open(name)
	if err != nil {
		return fs.ErrNotExist
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fs.ErrNotExist
	}
	tag, err := etag(name, f, info)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Content-Type", contentType(name))
	h.Set("Cache-Control", cacheControl(name))
	var content io.ReadSeeker = f
	if bytesPerSecond > 0 {
		content = &slow{ctx: r.Context(), from: f, bytesPerSecond: bytesPerSecond}
	}
	// No modification time: two pointers written within one second would have the same.
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

// etag is the digest of the bytes where that is known or cheap. Size and time alone would not do for the
// pointer: it is replaced by one of the same size, perhaps within the clock's granularity.
func etag(name string, f *os.File, info fs.FileInfo) (string, error) {
	if artifactName.MatchString(name) {
		return `"` + strings.TrimPrefix(name, "artifacts/") + `"`, nil
	}
	if info.Size() > hashLimit {
		return fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()), nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, hashLimit)); err != nil {
		return "", err
	}
	_, err := f.Seek(0, io.SeekStart)
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, err
}

func contentType(name string) string {
	if strings.HasSuffix(name, ".json") {
		return "application/json"
	}
	return "application/octet-stream"
}

func cacheControl(name string) string {
	if strings.HasPrefix(name, "artifacts/") || strings.HasPrefix(name, "targets/") || versionName.MatchString(name) {
		return "public, max-age=31536000, immutable"
	}
	return "no-cache"
}

// slow hands out twentieths of a second's worth of bytes and waits after each.
type slow struct {
	ctx            context.Context
	from           io.ReadSeeker
	bytesPerSecond int64
}

func (s *slow) Seek(offset int64, whence int) (int64, error) { return s.from.Seek(offset, whence) }

func (s *slow) Read(p []byte) (int, error) {
	if most := max(1, s.bytesPerSecond/20); int64(len(p)) > most {
		p = p[:most]
	}
	n, err := s.from.Read(p)
	wait := time.NewTimer(time.Duration(n) * time.Second / time.Duration(s.bytesPerSecond))
	defer wait.Stop()
	select {
	case <-wait.C:
		return n, err
	case <-s.ctx.Done():
		return n, s.ctx.Err()
	}
}
