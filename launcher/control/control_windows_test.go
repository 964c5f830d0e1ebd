package control

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/pipe"
)

// A member of the group reads by a pipe of his own, on which nothing can be ordered; the administrators' pipe
// goes on beside it.
func TestReadersHaveAPipe(t *testing.T) {
	d := &desk{status: Status{Product: "acme"}}
	_, addr := serve(t, d, "Users")
	for _, tc := range []struct {
		addr  string
		order Code
	}{{addr + readersSuffix, NoPrivilege}, {addr, OK}} {
		c := NewClient(tc.addr)
		st, err := c.Status(t.Context())
		if err != nil || st.Product != "acme" {
			t.Errorf("%s: status %+v, %v", tc.addr, st, err)
		}
		var e *Error
		err = c.Order(t.Context(), "pause", Request{})
		if tc.order == OK && err != nil || tc.order != OK && (!errors.As(err, &e) || e.Code != tc.order) {
			t.Errorf("%s: an order: %v, want code %d", tc.addr, err, tc.order)
		}
	}
	if len(d.orders) != 1 {
		t.Errorf("%d orders were taken, want that of the administrator", len(d.orders))
	}
}

// Each of the two pipes goes on after an accept that failed.
func TestFailedAcceptOfAPair(t *testing.T) {
	_, addr := serveOn(t, &desk{}, "Users", func(ln net.Listener) net.Listener {
		p := ln.(*pair)
		p.Close() // which has accepted from both already
		admins, err := listenPipe(p.Addr().String(), administrators)
		if err != nil {
			t.Fatal(err)
		}
		readers, err := listenPipe(p.Addr().String()+readersSuffix, administrators)
		if err != nil {
			t.Fatal(err)
		}
		return newPair(&feeble{Listener: admins}, &feeble{Listener: readers})
	})
	for _, addr := range []string{addr, addr + readersSuffix} {
		if _, err := NewClient(addr).Status(t.Context()); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// Without a group there is no second pipe.
func TestNoReadersNoPipe(t *testing.T) {
	_, addr := serve(t, &desk{}, "")
	timeout := time.Second
	if c, err := winio.DialPipe(pipe.Name(addr)+readersSuffix, &timeout); err == nil {
		t.Errorf("there is a pipe for readers: %v", c.Close())
	}
	if _, err := Listen(addr+"-x", "nobody-has-this-name"); err == nil || !strings.Contains(err.Error(), "read_group") {
		t.Errorf("a group that does not exist: %v", err)
	}
}

// Who was first with the name that anybody can make keeps no administrator's launcher from starting, and is asked
// nothing.
func TestNobodySquatsTheControlPipe(t *testing.T) {
	if !pipe.Administrator() {
		t.Skip("not an administrator: any user can make the name")
	}
	addr := Address("", "acme-squatted")
	squatter, err := winio.ListenPipe(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	if c, err := dial(t.Context(), addr); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the squatter is dialled: %v, %v", c, err)
	}
	ln, err := Listen(addr, "")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
}

// No reader may make an instance of a pipe: it would be taken for the launcher.
func TestReadersCannotPose(t *testing.T) {
	const createPipeInstance = 0x4 // FILE_CREATE_PIPE_INSTANCE, which is FILE_APPEND_DATA
	if readersAccess&createPipeInstance != 0 || readersAccess != 0x12019b {
		t.Errorf("readers are given %#x", readersAccess)
	}
	if _, err := windows.SecurityDescriptorFromString(administrators + "(A;;0x12019b;;;S-1-5-32-545)"); err != nil {
		t.Error(err)
	}
}
