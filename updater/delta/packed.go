package delta

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Packed is the kind of a patch that starts from nothing: the new file, compressed in one zstd frame.
const Packed = "zstd"

const packedMagic = "\x28\xb5\x2f\xfd"

// window bounds the memory that a packed file may ask for: the decoder keeps as much of what it wrote.
const window = 4 << 20

// Pack compresses a file as well as it can be without asking hosts for more memory than a patch does.
func Pack(fresh []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err == nil {
		_, err = z.Write(fresh)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

// unpack writes the file that is packed in f.Patch.
func unpack(ctx context.Context, f Files, w io.Writer) error {
	src := &source{r: io.NewSectionReader(f.Patch, 0, f.PatchBytes)}
	z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPatch, err)
	}
	defer z.Close()
	buf := make([]byte, chunkBytes)
	for left := f.NewBytes; ; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := z.Read(buf)
		if left -= int64(n); left < 0 {
			return fmt.Errorf("%w: it makes more than %d bytes", ErrPatch, f.NewBytes)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		switch {
		case err == nil:
		case src.err != nil:
			return src.err
		case err != io.EOF:
			return fmt.Errorf("%w: %w", ErrPatch, err)
		case left > 0:
			return fmt.Errorf("%w: it lacks %d of %d bytes", ErrPatch, left, f.NewBytes)
		default:
			return nil
		}
	}
}

// source keeps an error of the file apart from one of the format.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
