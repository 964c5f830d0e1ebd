package child

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

func TestReadyFromTheWrongProcessIsRefused(t *testing.T) {
	for _, mode := range []string{"wrongtoken", "lend", "early"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, open(t, options(t)), program(t, SDK, "sdk", mode))
			_, err := p.Ready(soon(t))
			if !errors.Is(err, ErrExited) || p.Exit().Code != 7 {
				t.Errorf("ready: %v, exit %v; want the connection closed and never ready", err, p.Exit())
			}
		})
	}
}

func TestGarbageOnTheWireEndsTheConnection(t *testing.T) {
	for _, mode := range []string{"garbage", "longline", "toomany", "elsewhere", "gifts"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, open(t, options(t)), program(t, SDK, "sdk", mode))
			_, err := p.Ready(soon(t))
			if !errors.Is(err, ErrExited) || p.Exit().Code != 7 {
				t.Errorf("ready: %v, exit %v; want the connection closed", err, p.Exit())
			}
		})
	}
}

func TestStrangersDoNotTakeThePlacesOfPayloads(t *testing.T) {
	h := open(t, options(t))
	for range 3 * maxClients {
		c, err := net.Dial("unix", h.o.Wire)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	ready(t, start(t, h, program(t, SDK, "sdk", "")))
}

func TestOrders(t *testing.T) {
	h := open(t, options(t))
	t.Run("noack", func(t *testing.T) {
		p := start(t, h, program(t, SDK, "sdk", "noack"))
		ready(t, p)
		if err := p.Park(soon(t)); !errors.Is(err, ErrNoAck) {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Park(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("refuse", func(t *testing.T) {
		p := start(t, h, program(t, SDK, "sdk", "refuse"))
		ready(t, p)
		if err := p.Accept(soon(t)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "not now") {
			t.Error(err)
		}
	})
	t.Run("again after a reconnection", func(t *testing.T) {
		p := start(t, h, program(t, SDK, "sdk", "drop"))
		ready(t, p)
		if err := p.Accept(soon(t)); err != nil {
			t.Error(err)
		}
	})
}
