package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// paced is the body of an answer that must keep coming: its next byte within o.Timeout (ErrSilent), and o.MinRate bytes
// a second on average once o.Timeout is used up (ErrSlow). A deadline for the whole would have to fit the largest file
// on the slowest line and so would bound nothing. Only time spent waiting for the server counts; a slow
// disk or a suspended reader is not its fault.
type paced struct {
	body   io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	o      Options
	got    int64
	waited time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	slack := p.o.Timeout + time.Duration(float64(p.got)/float64(p.o.MinRate)*float64(time.Second)) - p.waited
	begun, limit := time.Now(), min(slack, p.o.Timeout)
	verdict := p.verdict(limit)
	timer := time.AfterFunc(limit, func() { p.cancel(verdict) })
	n, err := p.body.Read(b)
	timer.Stop()
	p.got += int64(n)
	p.waited += time.Since(begun)
	if cause := context.Cause(p.ctx); err != nil && err != io.EOF && late(cause) {
		err = cause
	}
	return n, err
}

// verdict is the error of a body whose next byte did not come within limit. One that broke off soon after its beginning
// has a little less than the whole Timeout left; one that drips has used it up in between.
func (p *paced) verdict(limit time.Duration) error {
	what := ErrSlow
	if limit >= p.o.Timeout/2 {
		what = ErrSilent
	}
	return fmt.Errorf("%w: %d bytes in %s, at least %d a second are expected", what, p.got, (p.waited + limit).Round(time.Millisecond), p.o.MinRate)
}

// late says whether err is that of an answer which did not come in time.
func late(err error) bool { return errors.Is(err, ErrSlow) || errors.Is(err, ErrSilent) }

func (p *paced) Close() error {
	p.cancel(nil)
	return p.body.Close()
}
