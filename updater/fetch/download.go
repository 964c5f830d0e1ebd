package fetch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// Want is a file as its signed metadata describes it.
type Want struct {
	Name      string
	SizeBytes int64
	SHA256    string // 64 lower-case hex digits
}

// chunkBytes is how much of a download is in memory.
const chunkBytes = 256 << 10

// Download fills the file dst on the disk d with the wanted bytes and returns nil when they are there,
// right and synced. It goes on with what an earlier call left in dst (its ETag is kept in dst+".etag"), and
// starts over when the server cannot. The folder of dst must be writable by nobody else. Progress, if not
// nil, is called after each chunk.
//
// ErrDigest means that a whole file came in one piece and was wrong; dst is then gone. If it was put
// together from several tries, the parts may be to blame, and it is fetched again from the start first.
// After any other error what has come is kept for the next call, unless it was the beginning of something
// longer than what is signed.
func (r *Repository) Download(ctx context.Context, d durable.Disk, w Want, dst string, progress func(done, total int64)) error {
	err := checkName(w.Name)
	if sum, herr := hex.DecodeString(w.SHA256); err == nil && (herr != nil || len(sum) != 32 || w.SizeBytes < 0) {
		err = fmt.Errorf("no such file can exist: %d bytes with digest %q", w.SizeBytes, w.SHA256)
	}
	if err == nil {
		err = r.download(ctx, d, w, dst, progress)
	}
	if err != nil {
		return fmt.Errorf("download %s: %w", brief(w.Name), err)
	}
	return nil
}

// brief leaves a person room for the rest of the sentence behind a name that is mostly digest.
func brief(name string) string {
	const most = 32
	if len(name) <= most {
		return name
	}
	return name[:most-1] + "…"
}

func (r *Repository) download(ctx context.Context, d durable.Disk, w Want, dst string, progress func(done, total int64)) error {
	p, err := openPart(ctx, d, dst, w.SizeBytes)
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	err = r.persist(ctx, rounds{r.o.Attempts, func() int64 { return p.have }}, func(src named) error {
		progress(p.have, w.SizeBytes)
		err := complete(ctx, src, p, w, progress)
		if errors.Is(err, errPieces) { // from one hand, or one liar among the mirrors could spoil all
			err = complete(ctx, src, p, w, progress)
		}
		return err
	})
	if errors.Is(err, ErrDigest) && p.have == 0 {
		return errors.Join(err, p.remove())
	}
	return errors.Join(err, p.close())
}

// complete makes one attempt at a source, and checks what is there then.
func complete(ctx context.Context, src named, p *part, w Want, progress func(done, total int64)) error {
	if err := fill(ctx, src, p, w, progress); err != nil {
		return err
	}
	return p.finish(w)
}

// fill makes one attempt to complete the part.
func fill(ctx context.Context, src named, p *part, w Want, progress func(done, total int64)) error {
	if p.have == w.SizeBytes && p.pieces > 0 {
		return nil // an earlier call was interrupted between the last byte and the check
	}
	s, err := src.open(ctx, w.Name, p.have, p.tagOf(src))
	if errors.Is(err, errNoRange) {
		if err := p.restart(); err != nil {
			return localError{err}
		}
		return passing{errNoRange} // the next attempt asks for all of it
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.body.Close() }() // a reader has nothing to lose
	// The server's own word on the length is looked at before anything on disk is given up for its answer.
	if s.total > w.SizeBytes {
		return fmt.Errorf("%w: the server has %d bytes, %d are signed", ErrTooLong, s.total, w.SizeBytes)
	}
	if s.total >= 0 && s.total < w.SizeBytes {
		return fmt.Errorf("%w: the server has %d bytes, %d are signed", ErrTruncated, s.total, w.SizeBytes)
	}
	if err := p.begin(src, s, w.SizeBytes); err != nil {
		return localError{err}
	}
	return p.copy(s.body, w.SizeBytes, progress)
}

// copy appends to the part what comes, up to the signed length, and then makes sure that nothing more does.
func (p *part) copy(from io.Reader, size int64, progress func(done, total int64)) error {
	buf := make([]byte, chunkBytes)
	for p.have < size {
		n, rerr := from.Read(buf[:min(size-p.have, chunkBytes)])
		if err := p.append(buf[:n]); err != nil {
			return err
		}
		if n > 0 {
			progress(p.have, size)
		}
		if rerr != nil && p.have < size {
			return broken(rerr, p.have, size)
		}
	}
	// Whether the transfer ends well does not matter any more, only that it ends.
	if n, _ := io.ReadFull(from, buf[:1]); n > 0 {
		err := fmt.Errorf("%w: more than the signed %d bytes came", ErrTooLong, size)
		return errors.Join(err, p.restart()) // it is another file, so this beginning is no use
	}
	return nil
}
