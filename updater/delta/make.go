package delta

import (
	"context"
	"fmt"
	"math"
)

// MaxBytes is the size of the largest file that Make takes: the suffixes are counted in 32 bits.
const MaxBytes = math.MaxInt32 - 1

// Make returns a patch that turns old into fresh. It takes about 11 times the size of old in memory, and in time
// what sorting it takes.
func Make(ctx context.Context, old, fresh []byte) ([]byte, error) {
	if len(old) > MaxBytes || len(fresh) > MaxBytes {
		return nil, fmt.Errorf("make patch: files of %d and %d bytes, at most %d are possible", len(old), len(fresh), MaxBytes)
	}
	blocks, err := match(ctx, newIndex(old), fresh)
	if err != nil {
		return nil, fmt.Errorf("make patch: %w", err)
	}
	return encode(old, fresh, blocks), nil
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

// pack compresses the streams.
func pack(newBytes int, streams ...[]byte) []byte {
	patch := make([]byte, headerBytes)
	for i, s := range streams {
		before := len(patch)
		if patch = appendBzip2(patch, s); i < 2 {
			putInt(patch[8+8*i:], int64(len(patch)-before))
		}
	}
	copy(patch, plainMagic)
	putInt(patch[24:], int64(newBytes))
	return patch
}
