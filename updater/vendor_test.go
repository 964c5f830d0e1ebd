package updater

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"testing/iotest"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

func (w *world) Check(ctx context.Context) (policy.Offers, error) {
	if err := w.begin(ctx, "check", Version{}); err != nil {
		return policy.Offers{}, err
	}
	if w.phase() == journal.Idle {
		if w.checks++; w.checks >= w.enough && w.cancel != nil {
			w.cancel()
			return policy.Offers{}, context.Canceled
		}
	}
	for _, o := range w.offers {
		w.sawYank[o.Number] = w.sawYank[o.Number] || o.Yanked != ""
	}
	return policy.Offers{Name: "acme/stable", List: slices.Clone(w.offers)}, nil
}

func (w *world) Resolve(ctx context.Context, number string) (policy.Release, error) {
	if err := w.begin(ctx, "resolve", Version{Number: number}); err != nil {
		return policy.Release{}, err
	}
	var n int
	_, err := fmt.Sscanf(number, "1.%d.0", &n)
	return policy.Release{Version: version(n)}, err
}

func (w *world) Fetch(ctx context.Context, v Version, dst string, progress func(done, total int64)) error {
	if err := w.begin(ctx, "fetch", v); err != nil {
		return err
	}
	vendor, err := fetch.Open("http://vendor.example", fetch.Options{Attempts: 1, Client: &http.Client{Transport: w}})
	if err == nil {
		err = vendor.Download(ctx, w.cut, fetch.Want{Name: fmt.Sprint(v.Epoch), SizeBytes: v.SizeBytes, SHA256: v.Digest}, dst, progress)
	}
	w.done()
	if errors.Is(err, fetch.ErrDigest) {
		return Refused(err)
	}
	return err
}

// RoundTrip is the vendor's web server and the line to it.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	n, err := strconv.Atoi(path.Base(req.URL.Path))
	if err != nil {
		return nil, err
	}
	b, cut := artifact(n), error(nil)
	head := http.Header{"Etag": {fmt.Sprintf("%q", version(n).Digest)}}
	resp := &http.Response{Request: req, StatusCode: http.StatusOK, ContentLength: int64(len(b)), Header: head}
	var from int
	if n, _ := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
		resp.StatusCode = http.StatusPartialContent
		head.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
		b = b[from:]
	}
	if w.line != nil {
		if b, cut = w.line(b); b == nil {
			return nil, cut
		}
	}
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(b), iotest.ErrReader(cmp.Or(cut, io.EOF))))
	return resp, nil
}

func (w *world) Verify(ctx context.Context, v Version, file string) error {
	if err := w.begin(ctx, "verify", v); err != nil {
		return err
	}
	b, err := durable.ReadFile(w.disk, file, 1<<20)
	if err == nil && string(b) != string(artifact(int(v.Epoch))) {
		err = Bad(errors.New("the signature does not match"))
	}
	return err
}
