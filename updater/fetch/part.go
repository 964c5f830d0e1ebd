package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// part is a file that is being downloaded. Nothing of it is trusted until its digest is right, so it is
// synced only then: a power cut before costs the bytes and no more.
type part struct {
	d      durable.Disk
	name   string
	f      durable.File
	have   int64
	sum    hash.Hash // of the first have bytes
	pieces int       // transfers that these bytes came from; 2 if unknown
	tag    string    // ETag of the file that they belong to
	origin string    // address of the source whose tag that is
}

// openPart opens what an earlier call left, and hashes it, or makes a new file.
func openPart(ctx context.Context, d durable.Disk, name string, size int64) (*part, error) {
	p := &part{d: d, name: name, sum: sha256.New()}
	flag := os.O_RDWR
	info, err := d.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		flag |= os.O_CREATE | os.O_EXCL // and so never through a planted link
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is in the way and is not a file: remove it", name)
	default:
		if err := durable.OursAlone(name, info); err != nil {
			return nil, err
		}
	}
	if p.f, err = d.OpenFile(name, flag, 0o600); err != nil {
		return nil, err
	}
	if err := p.rehash(ctx, size); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *part) rehash(ctx context.Context, size int64) error {
	info, err := p.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 || info.Size() > size {
		return p.restart()
	}
	buf := make([]byte, chunkBytes)
	for p.have < info.Size() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := p.f.Read(buf[:min(info.Size()-p.have, chunkBytes)])
		if info.Size() == size { // its Sync may have failed, and then only writing again helps: see durable.File.Sync
			if _, err := p.f.WriteAt(buf[:n], p.have); err != nil {
				return err
			}
		}
		p.sum.Write(buf[:n])
		p.have += int64(n)
		if err != nil && (err != io.EOF || n == 0) {
			return fmt.Errorf("read what was downloaded before: %w", err)
		}
	}
	p.pieces = 2 // at least: nobody knows how often it was interrupted, or whether power was cut
	if b, err := durable.ReadFile(p.d, p.tagName(), 4<<10); err == nil {
		tag, origin, _ := strings.Cut(string(b), "\n")
		p.tag, p.origin = strong(tag), origin // without it the digest alone tells whether the pieces fit
	}
	return nil
}

// tagOf is the tag to go on with at a source. Another mirror has tags of its own; whether its file is the same,
// the digest will tell.
func (p *part) tagOf(src named) string {
	if p.origin != src.address {
		return ""
	}
	return p.tag
}

func (p *part) tagName() string { return p.name + ".etag" }

// restart gives up what there is.
func (p *part) restart() error {
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	if _, err := p.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.have, p.pieces, p.tag, p.origin = 0, 0, "", ""
	p.sum.Reset()
	return p.removeTag()
}

// begin makes the part ready for the bytes of s. A new tag is on disk before the first byte of its file; if
// a crash leaves bytes with another's tag all the same, the digest will not be right and all is fetched again.
func (p *part) begin(src named, s *stream, size int64) error {
	if s.from != p.have { // the server starts at 0, because it knows no ranges or has another file now
		if err := p.restart(); err != nil {
			return err
		}
	}
	if err := p.allocate(size); err != nil {
		return err
	}
	p.pieces++
	if p.have > 0 || s.tag == "" {
		return nil
	}
	p.tag, p.origin = s.tag, src.address
	return durable.WriteFile(p.d, p.tagName(), []byte(s.tag+"\n"+src.address), 0o600)
}

// allocate takes the space of the whole file, so that a full disk shows before the bytes are fetched and not
// after most of them. The length of the file stays that of the bytes that came: it is what the next call
// resumes from.
func (p *part) allocate(size int64) error {
	err := p.f.Allocate(size)
	if err != nil {
		// What could be taken is of no use to anybody as long as the rest is missing.
		_ = p.f.Truncate(p.have)
		return fmt.Errorf("take %d bytes on the disk: %w", size, err)
	}
	return nil
}

func (p *part) append(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := p.f.Write(b); err != nil {
		return localError{fmt.Errorf("write after %d bytes: %w", p.have, err)}
	}
	p.sum.Write(b)
	p.have += int64(len(b))
	return nil
}

var errPieces = errors.New("the pieces of several transfers do not fit together: starting over")

// finish checks the digest and makes the file durable.
func (p *part) finish(w Want) error {
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != w.SHA256 {
		if p.pieces > 1 {
			// Pieces of different files, or bytes that a power cut spoiled, are no evidence against what is signed.
			if err := p.restart(); err != nil {
				return localError{err}
			}
			return passing{errPieces}
		}
		err := fmt.Errorf("%w: sha256 is %s, signed is %s", ErrDigest, got, w.SHA256)
		return errors.Join(err, p.restart())
	}
	err := p.f.Sync()
	if err == nil {
		err = p.d.SyncDir(filepath.Dir(p.name))
	}
	if err == nil {
		err = p.removeTag()
	}
	if err != nil {
		return localError{err}
	}
	return nil
}

func (p *part) removeTag() error {
	if err := p.d.Remove(p.tagName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (p *part) close() error { return p.f.Close() }

func (p *part) remove() error {
	return errors.Join(p.close(), p.d.Remove(p.name), p.removeTag())
}

// Forget removes what an earlier Download left in dst, if anything.
func Forget(d durable.Disk, dst string) error {
	p := part{d: d, name: dst}
	if err := p.removeTag(); err != nil {
		return err
	}
	if err := d.Remove(dst); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
