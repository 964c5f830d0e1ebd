// Package probe answers one question about a version: is it healthy? Once asks, Ready asks until the
// answer is believed, and a Judge decides in probation whether the answers are evidence against a version.
//
// The invariant of the Judge: nothing that the version before fails as well condemns the candidate. A
// dependency that is down is down for both, and putting a good version into quarantine for it would leave
// the host on the old one long after the dependency is back.
//
// probe starts no version and stops none, and it keeps no time of its own: who calls decides when to ask.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Kind is how a version is asked.
type Kind string

const (
	HTTP Kind = "http" // GET Path at Address answers with a Status
	TCP  Kind = "tcp"  // Address accepts a connection
	Exec Kind = "exec" // Command exits 0
	None Kind = "none" // always well: only its exit speaks against the version
)

// Check is one question. It holds no state and may be asked from several goroutines.
type Check struct {
	Kind    Kind
	Address string // host:port, for HTTP and TCP
	Path    string // with its leading slash, for HTTP; default "/"
	Status  Range  // of good answers; default 200 to 299

	// Command runs without a shell, with Env alone as its environment (empty means PATH only) and Attr as its
	// process attributes. Without Attr it runs as the launcher's own user, so it must be a program that the
	// payload cannot write.
	Command []string
	Env     []string
	Dir     string // working folder; default the launcher's
	Attr    *syscall.SysProcAttr

	Timeout  time.Duration // of one answer; default 2 s
	Interval time.Duration // longest pause between two questions of Ready; default 1 s
}

// Range is a closed range of HTTP status codes.
type Range struct{ Low, High int }

// Result is one answer.
type Result struct {
	OK   bool          `json:"ok"`
	Mute bool          `json:"mute,omitempty"` // the command could not be started, which says nothing of the version
	Text string        `json:"text"`           // one line, at most 200 bytes, safe to print
	Took time.Duration `json:"took"`
	At   time.Time     `json:"at"` // when the question was asked
}

// maxText bounds Result.Text, which holds words of the payload.
const maxText = 200

// Once asks now and returns within Timeout.
func (c Check) Once(ctx context.Context) Result {
	c = c.withDefaults()
	r := Result{At: time.Now()}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	text, err := c.ask(limited)
	r.Took = time.Since(r.At)
	switch {
	case err == nil:
		r.OK = true
	case limited.Err() != nil && ctx.Err() == nil:
		text = fmt.Sprintf("no answer within %s", c.Timeout)
	default:
		text, r.Mute = err.Error(), errors.Is(err, errNotRun)
	}
	r.Text = printable(text)
	return r
}

func (c Check) withDefaults() Check {
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Status == (Range{}) {
		c.Status = Range{200, 299}
	}
	return c
}

func (c Check) ask(ctx context.Context) (string, error) {
	switch c.Kind {
	case HTTP:
		return c.askHTTP(ctx)
	case TCP:
		return c.askTCP(ctx)
	case Exec:
		return c.askExec(ctx)
	case None:
		return "not probed", nil
	}
	return "", fmt.Errorf("unknown kind of probe %q", c.Kind)
}

// client asks on a new connection each time, since that is what a new user of the version meets, never
// through a proxy of the environment, and takes a redirect as the answer that it is.
var client = &http.Client{
	Transport: &http.Transport{
		Proxy:                  nil,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func (c Check) askHTTP(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Address+c.Path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "turnstone-probe")
	resp, err := client.Do(req)
	if err != nil {
		return "", cause(err)
	}
	defer func() { _ = resp.Body.Close() }() // the answer is in the header
	text := fmt.Sprintf("status %d", resp.StatusCode)
	if resp.StatusCode >= c.Status.Low && resp.StatusCode <= c.Status.High {
		return text, nil
	}
	body := make([]byte, maxText)
	n, _ := resp.Body.Read(body) // what the version says about it, if it says something
	if n > 0 {
		text += ": " + string(body[:n])
	}
	return "", errors.New(text)
}

func (c Check) askTCP(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return "", cause(err)
	}
	_ = conn.Close() // that it was accepted is the answer
	return "connected", nil
}

// cause drops the address and the operation, which are the same in every line of a transcript.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// printable makes one short line of text that a version may have chosen: no control characters, so that
// it cannot move a terminal's cursor or forge a line of a log.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText-3], "") + "..."
	}
	return text
}
