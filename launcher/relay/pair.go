package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// stream is what *net.TCPConn and *net.UnixConn have in common. They are never wrapped: io.Copy between
// the bare types is splice(2) on Linux, which moves the bytes through a pipe inside the kernel.
type stream interface {
	net.Conn
	CloseWrite() error
}

// pair is one client connection and the way it is carried.
type pair struct {
	ctx    context.Context // ends the pair: it is cut
	cancel context.CancelFunc
	client stream
	tried  []*Target // where it was counted, the last one included
	waited bool      // for one more, after all had refused
}

// join carries bytes both ways until both sides are done, closes both and returns nil. When ctx ends
// first it resets both and returns the cause. Each half ends for itself: a client that has sent its
// request and closed its sending side still gets the whole answer.
func join(ctx context.Context, client, server stream) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		abort(client)
		abort(server)
	})
	a, b := &side{stream: client}, &side{stream: server}
	var halves sync.WaitGroup
	halves.Go(func() { pump(b, a) })
	pump(a, b)
	halves.Wait()
	if !stop() {
		<-cut
		return context.Cause(ctx)
	}
	_ = client.Close() // both directions have ended; there is nobody to tell
	_ = server.Close()
	return nil
}

// side is one end of a pair.
type side struct {
	stream
	finished atomic.Bool // we have ended our sending to it; set before that is done
}

// pump carries one direction, and passes on how it ended: an end of stream as an end of stream, a reset
// as a reset. Turning a reset into an end of stream would make a broken transfer look complete to a
// protocol that reads until the end.
func pump(to, from *side) {
	_, err := io.Copy(to.stream, from.stream)
	switch {
	case err == nil && !wasReset(from):
		to.finished.Store(true)
		_ = to.CloseWrite() // fails if the peer has gone, which the other direction will see
	case err != nil && (errors.Is(err, syscall.EPIPE) || gone(to.stream)):
		// The receiver has reset. What it sent before that (the early answer to an upload that it did not want
		// to read, say) may still be on its way in the other direction, which ends the pair when it is through.
	default:
		abort(to.stream)
		abort(from.stream)
	}
}

// wasReset tells a reset that looks like an end of stream. The kernel reports a reset once; if the other
// direction got that report when it tried to write, our read just ends. After a true end of stream the
// connection would still be half open, unless we have ended our half as well. The state is read first: we
// mark our end before we make it, so a connection closed by that is never taken for a reset.
func wasReset(s *side) bool {
	return gone(s.stream) && !s.finished.Load()
}

// abort closes c at once as a reset (on a unix socket, which has none, as a close).
func abort(c stream) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails only if it is closed already
	}
	_ = c.Close() // the same
}
