package delta

import (
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
)

// chunkBytes is how much of a file is in memory at once. The rest of what Apply needs are the tables of three
// bzip2 readers, at most 4 MB each.
const chunkBytes = 64 << 10

// Files is what a patch is applied to. Old and Patch are read at many places.
type Files struct {
	Old        io.ReaderAt
	OldBytes   int64
	Patch      io.ReaderAt
	PatchBytes int64
	NewBytes   int64 // that the patch must announce: from a signed document
}

// Apply writes the new file to w. The error is ErrPatch when the patch is at fault, the cause of ctx when
// that has ended, or one of the files; what was written is then of no use.
func Apply(ctx context.Context, f Files, w io.Writer) error {
	f, err := unwrap(f)
	if err == nil {
		err = apply(ctx, f, w)
	}
	if err != nil {
		return fmt.Errorf("apply patch: %w", err)
	}
	return nil
}

// unwrap makes of a patch of the kind Go a plain one, for the old file with its references moved.
func unwrap(f Files) (Files, error) {
	var head [goBytes]byte
	if _, err := f.Patch.ReadAt(head[:], 0); err != nil && err != io.EOF {
		return f, readError(err, "header")
	}
	if string(head[:len(goMagic)]) != goMagic {
		return f, nil
	}
	n, left := getInt(head[len(goMagic):]), f.PatchBytes-goBytes
	if n < 0 || n > left {
		return f, fmt.Errorf("%w: a layout of %d bytes in a patch of %d", ErrPatch, n, f.PatchBytes)
	}
	l, err := readLayout(io.NewSectionReader(f.Patch, goBytes, n), f.OldBytes)
	if err != nil {
		return f, err
	}
	f.Old = newMoved(l, f.Old, f.OldBytes)
	f.Patch, f.PatchBytes = io.NewSectionReader(f.Patch, goBytes+n, left-n), left-n
	return f, nil
}

func apply(ctx context.Context, f Files, w io.Writer) error {
	var magic [4]byte
	if n, err := f.Patch.ReadAt(magic[:], 0); n == len(magic) && string(magic[:]) == packedMagic {
		return unpack(ctx, f, w)
	} else if err != nil && err != io.EOF {
		return readError(err, "header")
	}
	var head [headerBytes]byte
	if _, err := f.Patch.ReadAt(head[:], 0); err != nil {
		return readError(err, "header")
	}
	if string(head[:8]) != plainMagic {
		return fmt.Errorf("%w: it begins with %q", ErrPatch, head[:8])
	}
	steps, diff, size := getInt(head[8:]), getInt(head[16:]), getInt(head[24:])
	left := f.PatchBytes - headerBytes
	if steps < 0 || diff < 0 || steps > left || diff > left-steps {
		return fmt.Errorf("%w: streams of %d and %d bytes in a patch of %d", ErrPatch, steps, diff, f.PatchBytes)
	}
	if size != f.NewBytes {
		return fmt.Errorf("%w: it makes %d bytes, not %d", ErrPatch, size, f.NewBytes)
	}
	stream := func(from, n int64) io.Reader { return bzip2.NewReader(io.NewSectionReader(f.Patch, from, n)) }
	p := player{
		ctx: ctx, old: f.Old, oldBytes: f.OldBytes, w: w, left: size,
		steps: stream(headerBytes, steps), diff: stream(headerBytes+steps, diff), extra: stream(headerBytes+steps+diff, left-steps-diff),
		buf: make([]byte, chunkBytes), add: make([]byte, chunkBytes),
	}
	return p.play()
}

// player follows the steps of a patch.
type player struct {
	ctx                context.Context
	old                io.ReaderAt
	oldBytes           int64
	at                 int64 // in old
	steps, diff, extra io.Reader
	w                  io.Writer
	left               int64 // to be written
	buf, add           []byte
}

func (p *player) play() error {
	idle := 1 // steps that bring nothing are allowed one for each that does: no patch goes on for ever
	for p.left > 0 {
		var b [stepBytes]byte
		if _, err := io.ReadFull(p.steps, b[:]); err != nil {
			return readError(err, "steps")
		}
		x, y, z := getInt(b[:]), getInt(b[8:]), getInt(b[16:])
		if x < 0 || y < 0 || x > p.left || y > p.left-x || x > p.oldBytes-p.at {
			return fmt.Errorf("%w: a step of %d and %d bytes at %d of the old %d, with %d to go", ErrPatch, x, y, p.at, p.oldBytes, p.left)
		}
		if x+y > 0 {
			idle++
		} else if idle--; idle < 0 {
			return fmt.Errorf("%w: steps that bring nothing", ErrPatch)
		}
		if err := p.step(x, y); err != nil {
			return err
		}
		if p.at += x; z < -p.at || z > p.oldBytes-p.at {
			return fmt.Errorf("%w: a move by %d from %d of the old %d bytes", ErrPatch, z, p.at, p.oldBytes)
		}
		p.at += z
	}
	return nil
}

// step writes x bytes of old, changed, and y new ones.
func (p *player) step(x, y int64) error {
	for done := int64(0); done < x; {
		n := min(x-done, chunkBytes)
		if err := p.copy(p.at+done, p.buf[:n], p.add[:n]); err != nil {
			return err
		}
		done += n
	}
	for y > 0 {
		n := min(y, chunkBytes)
		if _, err := io.ReadFull(p.extra, p.buf[:n]); err != nil {
			return readError(err, "extra bytes")
		}
		if err := p.write(p.buf[:n]); err != nil {
			return err
		}
		y -= n
	}
	return nil
}

func (p *player) copy(at int64, buf, add []byte) error {
	if n, err := p.old.ReadAt(buf, at); n < len(buf) {
		return fmt.Errorf("read the old file at %d: %w", at, err)
	}
	if _, err := io.ReadFull(p.diff, add); err != nil {
		return readError(err, "differences")
	}
	for i, d := range add {
		buf[i] += d
	}
	return p.write(buf)
}

func (p *player) write(b []byte) error {
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	n, err := p.w.Write(b)
	p.left -= int64(n)
	return err
}

// readError tells a patch that ends early or is no bzip2 from a disk that cannot be read.
func readError(err error, what string) error {
	var damaged bzip2.StructuralError
	if err == io.EOF || err == io.ErrUnexpectedEOF || errors.As(err, &damaged) {
		return fmt.Errorf("%w: %s: %v", ErrPatch, what, err)
	}
	return fmt.Errorf("read the patch's %s: %w", what, err)
}
