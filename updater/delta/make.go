package delta

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
)

// MaxBytes is the size of the largest file that Make takes: the suffixes are counted in 32 bits.
const MaxBytes = math.MaxInt32 - 1

// Make returns the smaller kind of patch that turns old into fresh: for Go executables that are understood it is
// Go, else Plain. It takes about 12 times the size of old in memory, and in time what sorting it takes.
func Make(ctx context.Context, old, fresh []byte) ([]byte, error) {
	if a, err := parseGo(old); err == nil {
		if b, err := parseGo(fresh); err == nil {
			return made(makeGo(ctx, a, b))
		}
	}
	return MakePlain(ctx, old, fresh)
}

// MakePlain returns a patch in the classic form.
func MakePlain(ctx context.Context, old, fresh []byte) ([]byte, error) {
	return made(makePlain(ctx, old, fresh))
}

func made(patch []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("make patch: %w", err)
	}
	return patch, nil
}

func makePlain(ctx context.Context, old, fresh []byte) ([]byte, error) {
	blocks, err := compare(ctx, old, fresh)
	if err != nil {
		return nil, err
	}
	return encode(old, fresh, blocks), nil
}

func compare(ctx context.Context, old, fresh []byte) ([]block, error) {
	if len(old) > MaxBytes || len(fresh) > MaxBytes {
		return nil, fmt.Errorf("files of %d and %d bytes, at most %d are possible", len(old), len(fresh), MaxBytes)
	}
	return match(ctx, newIndex(old), fresh)
}

// makeGo compares the old file with all known references moved to the new one. What it finds to be alike shows how
// the rest have moved, which makes the differences fewer and the places no others.
func makeGo(ctx context.Context, old, fresh *program) ([]byte, error) {
	v := votes{}
	v.addPrograms(old, fresh)
	was, err := old.moved(v)
	if err != nil {
		return nil, err
	}
	blocks, err := compare(ctx, was, fresh.file)
	if err == nil {
		err = v.addBlocks(old, fresh, blocks)
	}
	if err == nil {
		was, err = old.moved(v)
	}
	if err != nil {
		return nil, err
	}
	return wrap(&old.layout, encode(was, fresh.file, blocks)), nil
}

// wrap puts the layout before a plain patch.
func wrap(l *layout, plain []byte) []byte {
	patch := append([]byte(goMagic), make([]byte, 8)...)
	patch = appendBzip2(patch, l.print(), 9)
	putInt(patch[len(goMagic):], int64(len(patch)-goBytes))
	return append(patch, plain...)
}

// moved returns the old file moved as the votes say, and keeps that in its layout.
func (p *program) moved(v votes) ([]byte, error) {
	p.shifts = v.shifts()
	m := newMoved(p.layout, bytes.NewReader(p.file), int64(len(p.file)))
	return io.ReadAll(io.NewSectionReader(m, 0, m.size))
}

// encode writes blocks of old and what lies between them as a patch.
func encode(old, fresh []byte, blocks []block) []byte {
	var steps, extra []byte
	diff := make([]byte, 0, len(fresh))
	step := func(x, y, z int) {
		b := make([]byte, stepBytes)
		putInt(b, int64(x))
		putInt(b[8:], int64(y))
		putInt(b[16:], int64(z))
		steps = append(steps, b...)
	}
	if len(blocks) == 0 || blocks[0].old != 0 || blocks[0].new != 0 {
		blocks = append([]block{{}}, blocks...)
	}
	for i, b := range blocks {
		next := block{old: b.old + b.n, new: len(fresh)}
		if i+1 < len(blocks) {
			next = blocks[i+1]
		}
		for k := range b.n {
			diff = append(diff, fresh[b.new+k]-old[b.old+k])
		}
		extra = append(extra, fresh[b.new+b.n:next.new]...)
		step(b.n, next.new-b.new-b.n, next.old-b.old-b.n)
	}
	return pack(len(fresh), steps, diff, extra)
}

// levels of compression: the differences are by far the longest, and who applies the patch needs memory for each.
var levels = []int{4, 9, 4}

// pack compresses the streams.
func pack(newBytes int, streams ...[]byte) []byte {
	patch := make([]byte, headerBytes)
	for i, s := range streams {
		before := len(patch)
		if patch = appendBzip2(patch, s, levels[i]); i < 2 {
			putInt(patch[8+8*i:], int64(len(patch)-before))
		}
	}
	copy(patch, plainMagic)
	putInt(patch[24:], int64(newBytes))
	return patch
}
