package delta

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func packedFiles(b []byte, newBytes int64) Files {
	return Files{Patch: bytes.NewReader(b), PatchBytes: int64(len(b)), NewBytes: newBytes}
}

func TestPack(t *testing.T) {
	fresh := bytes.Repeat([]byte("a program says the same thing again and again. "), 200_000) // more than the window
	for i := range fresh {
		if i%97 == 0 {
			fresh[i] = byte(rand.Uint32())
		}
	}
	b, err := Pack(fresh)
	if err != nil || Kind(b) != Packed || len(b) > len(fresh)/4 {
		t.Fatalf("%d bytes of %d, kind %q, %v", len(b), len(fresh), Kind(b), err)
	}
	var out bytes.Buffer
	if err := Apply(t.Context(), packedFiles(b, int64(len(fresh))), &out); err != nil || !bytes.Equal(out.Bytes(), fresh) {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

func TestPackedRefuses(t *testing.T) {
	fresh := bytes.Repeat([]byte("text "), 50_000)
	b, err := Pack(fresh)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(fresh))
	var out bytes.Buffer
	stream, err := zstd.NewWriter(&out, zstd.WithWindowSize(2*window))
	if err == nil {
		_, err = io.CopyN(stream, rand.NewChaCha8([32]byte{}), 3*window)
	}
	if err := errors.Join(err, stream.Close()); err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(b)
	flipped[len(b)/2] ^= 1
	for name, f := range map[string]Files{
		"more than is signed": packedFiles(b, size-1),
		"less than is signed": packedFiles(b, size+1),
		"cut":                 packedFiles(b[:len(b)/2], size),
		"a bit":               packedFiles(flipped, size),
		"a wide window":       packedFiles(out.Bytes(), 3*window),
		"the magic alone":     packedFiles([]byte(packedMagic), size),
	} {
		var w bytes.Buffer
		if err := Apply(t.Context(), f, &w); !errors.Is(err, ErrPatch) || int64(w.Len()) > f.NewBytes {
			t.Errorf("%s: %v, %d bytes written", name, err, w.Len())
		}
	}
	if err := Apply(t.Context(), packedFiles(b, size), io.Discard); err != nil {
		t.Errorf("the twin is refused: %v", err)
	}
}
