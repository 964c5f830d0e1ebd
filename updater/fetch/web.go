package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxRedirects is how often a file may be elsewhere.
const maxRedirects = 5

// errNoRange says that the server does not have the range that was asked for.
var errNoRange = errors.New("the server has another file or no such range")

// web is a repository on a web server.
type web struct {
	base   *url.URL
	client *http.Client
	o      Options
}

func newWeb(base *url.URL, o Options) *web {
	client := &http.Client{}
	if o.Client != nil {
		*client = *o.Client
	}
	if client.Transport == nil {
		client.Transport = Transport()
	}
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
			return ErrInsecure // where anybody on the way could hold the answer back
		}
		return nil
	}
	return &web{base: base, client: client, o: o}
}

// Transport is how web servers are asked: directly, whatever the environment says of proxies, and trusting
// whom the system trusts. The caller may change both.
func Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.DisableCompression = true // the length and digest are those of the bytes as they are stored
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

func (w *web) open(ctx context.Context, name string, from int64, tag string) (*stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	// One bound for everything up to the answer's header: name, connection, TLS, redirects.
	late := time.AfterFunc(w.o.Timeout, func() { cancel(fmt.Errorf("%w: no answer within %s", ErrSilent, w.o.Timeout)) })
	resp, err := w.ask(ctx, name, from, tag)
	if !late.Stop() && err == nil {
		_ = resp.Body.Close() // it came in the same moment as its deadline; the body is cut already
		err = context.Cause(ctx)
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, ErrSilent) {
			err = passing{cause}
		}
		cancel(nil)
		return nil, err
	}
	s, err := read(resp, from)
	if err != nil {
		cancel(nil)
		_ = resp.Body.Close() // its header was enough
		return nil, err
	}
	s.body = &paced{body: resp.Body, ctx: ctx, cancel: cancel, o: w.o}
	return s, nil
}

func (w *web) ask(ctx context.Context, name string, from int64, tag string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath(name).String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "turnstone")
	if from > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		if tag != "" {
			req.Header.Set("If-Range", tag)
		}
	}
	resp, err := w.client.Do(req)
	if err == nil {
		return resp, nil
	}
	var untrusted *tls.CertificateVerificationError
	if errors.Is(err, ErrInsecure) || errors.As(err, &untrusted) {
		return nil, err
	}
	return nil, passing{err}
}

// read makes sense of the header of an answer.
func read(resp *http.Response, from int64) (*stream, error) {
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone, code == http.StatusForbidden:
		return nil, fmt.Errorf("%w (%s)", ErrNotFound, resp.Status)
	case code == http.StatusRequestedRangeNotSatisfiable && from > 0:
		return nil, errNoRange
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
		return nil, passing{fmt.Errorf("the server answered %s", resp.Status)}
	case code != http.StatusOK && (code != http.StatusPartialContent || from == 0):
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, fmt.Errorf("the server sent the file encoded as %q: configure it to send files as they are", enc)
	}
	s := &stream{total: resp.ContentLength, tag: strong(resp.Header.Get("ETag"))}
	if resp.StatusCode == http.StatusPartialContent {
		var ok bool
		if s.from, s.total, ok = parseRange(resp.Header.Get("Content-Range")); !ok || s.from != from {
			return nil, errNoRange
		}
	}
	return s, nil
}

// strong returns the entity tag if it is one that If-Range may carry (RFC 9110, 13.1.5 and 8.8.3), else "".
func strong(tag string) string {
	if len(tag) < 2 || len(tag) > 256 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	for _, c := range []byte(tag[1 : len(tag)-1]) {
		if c <= ' ' || c == '"' || c >= 0x7f {
			return ""
		}
	}
	return tag
}

// parseRange reads "bytes 100-199/200" or ".../*"; total is -1 for the latter.
func parseRange(v string) (from, total int64, ok bool) {
	v, ok = strings.CutPrefix(v, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(v, "/")
	first, last, ok2 := strings.Cut(span, "-")
	if !ok || !ok2 {
		return 0, 0, false
	}
	from, err := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if err != nil || err2 != nil || from < 0 || end < from {
		return 0, 0, false
	}
	if size == "*" {
		return from, -1, true
	}
	// An end short of the file's is legal; the rest is asked for by the next attempt.
	total, err = strconv.ParseInt(size, 10, 64)
	return from, total, err == nil && end < total
}
