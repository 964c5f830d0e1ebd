// Package fetch turns names into bytes: small files whole, and artifacts of a signed length and digest onto
// the disk, from a web server or a folder that nobody needs to trust.
//
// The invariant: a server can refuse or delay, and nothing else. Not one byte beyond the signed length is
// written, no wait is without a bound, and Download returns nil only when the file holds the signed bytes
// and they are on the disk. What has arrived is kept, so an interrupted download goes on where it stopped,
// also after a restart; kept bytes are hashed again, because after a power cut they may be anything.
//
// Mirrors hold the same files. They are asked in order, file by file, and a part goes on from whichever has it.
//
// fetch does not decide what to fetch, and verifies no signature: which of several mirrors tells the truth about
// what is new is for its caller to find out (Sources).
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// ErrNotFound says that the repository has no such file. A server that answers 403 counts as well: that is
// how object stores answer for a missing file to clients that may not list.
var ErrNotFound = fmt.Errorf("not in the repository: %w", fs.ErrNotExist)

// Errors of what a repository sent. ErrTooLong, ErrDigest, ErrInsecure and ErrSlow are evidence against it, or against who
// is on the way: a line that is down brings nothing, and one that is up and never ends holds a host as long as it likes.
// The others may be the line's.
var (
	ErrTooLong   = errors.New("longer than it may be")
	ErrTruncated = errors.New("shorter than it must be")
	ErrDigest    = errors.New("complete, but not the signed bytes")
	ErrSlow      = errors.New("a drip below the least rate")
	ErrSilent    = errors.New("silence")
	ErrInsecure  = errors.New("refused a redirect from https to an address without it")
)

// Options bound a Repository; the zero value is right for most.
type Options struct {
	Timeout  time.Duration // for an answer to begin, and between two of its bytes; default 30 s
	MinRate  int64         // bytes per second, on average after the first Timeout; default 8 KiB/s
	Attempts int           // in a row that bring nothing, of one download when the transfer breaks; default 5
	Backoff  time.Duration // after the first of them, doubled each time up to 10 s; default 500 ms
	MaxRate  int64         // bytes per second of all its transfers together; default no limit
	Client   *http.Client  // its Transport, Timeout and Jar are used; default is one with Transport()
	Mirrors  []string      // addresses where the same files are, asked in order when the first cannot serve one

	// Skipped is told of every try at one of several sources that failed; may be nil.
	Skipped func(address string, err error)
}

const longestBackoff = 10 * time.Second

// getAttempts is less than a download gets: nothing that has come is lost, and a person may be waiting to
// read that the server is down.
const getAttempts = 2

// Repository is where files are fetched from. It is safe for concurrent use.
type Repository struct {
	o    Options
	srcs []named // the repository and then its mirrors
}

// named is a source with the address that it was opened with.
type named struct {
	source
	address string
}

// source is a kind of repository.
type source interface {
	// open begins to read the file at byte from, or at 0 if it cannot (stream.from tells). The tag, if any, is
	// that of the earlier part: another file of the same name begins at 0.
	open(ctx context.Context, name string, from int64, tag string) (*stream, error)
}

// stream is a file that is being read.
type stream struct {
	body  io.ReadCloser
	from  int64  // where body begins
	total int64  // length of the whole file, -1 if not told
	tag   string // strong ETag with its quotes, "" if none
}

// passing marks an error that the next attempt may not meet.
type passing struct{ error }

func (p passing) Unwrap() error { return p.error }

// Open takes the address of a repository: http, https or file (file:///path, and on Windows
// file://server/share/path), or an absolute path (on Windows also \\server\share\path). It does not look
// whether anything is there.
func Open(address string, o Options) (*Repository, error) {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MinRate <= 0 {
		o.MinRate = 8 << 10
	}
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Backoff <= 0 {
		o.Backoff = 500 * time.Millisecond
	}
	r := &Repository{o: o}
	for _, a := range append([]string{address}, o.Mirrors...) {
		src, err := parse(a, o)
		if err != nil {
			return nil, err
		}
		r.srcs = append(r.srcs, named{src, a})
	}
	if o.MaxRate > 0 {
		meter(r.srcs, o.MaxRate)
	}
	return r, nil
}

// Sources are the repository and its mirrors, each by itself, in order: for who has to verify what all files of
// one of them say together.
func (r *Repository) Sources() []*Repository {
	o := r.o
	if len(r.srcs) > 1 {
		o.Attempts = 1 // the next one is the second try
	}
	var list []*Repository
	for _, s := range r.srcs {
		list = append(list, &Repository{o, []named{s}})
	}
	return list
}

// Address is what the repository, without its mirrors, was opened with.
func (r *Repository) Address() string { return r.srcs[0].address }

// names are all that is ever asked for: nothing to escape, nothing that climbs.
var names = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9._/-]{0,511}$`)

func checkName(name string) error {
	if !names.MatchString(name) || strings.Contains(name, "..") || strings.Contains(name, "//") || strings.HasSuffix(name, "/") {
		return fmt.Errorf("%q is not a name in a repository", name)
	}
	return nil
}

// Get reads a whole small file. ErrNotFound and ErrTooLong are final; a broken transfer is tried again.
func (r *Repository) Get(ctx context.Context, name string, maxBytes int64) (b []byte, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	err = r.persist(ctx, rounds{fruitless: min(r.o.Attempts, getAttempts)}, func(src named) error {
		b, err = get(ctx, src, name, maxBytes)
		var p passing
		if errors.As(err, &p) && errors.Is(err, ErrSilent) {
			return p.error // it had its time: who asks once more for a small file waits twice as long for the same
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	return b, nil
}

func get(ctx context.Context, src source, name string, maxBytes int64) ([]byte, error) {
	s, err := src.open(ctx, name, 0, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.body.Close() }() // a reader has nothing to lose
	if s.total > maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLong, s.total, maxBytes)
	}
	b, err := io.ReadAll(io.LimitReader(s.body, maxBytes+1))
	if int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLong, maxBytes)
	}
	if err != nil {
		return nil, broken(err, int64(len(b)), s.total)
	}
	return b, nil
}

// broken words an error in the middle of a file.
func broken(err error, have, total int64) error {
	if late(err) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return passing{fmt.Errorf("%w: it ended after %d of %d bytes", ErrTruncated, have, total)}
	}
	return passing{fmt.Errorf("after %d of %d bytes: %w", have, total, err)}
}
