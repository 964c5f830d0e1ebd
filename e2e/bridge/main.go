//go:build windows

// Command bridge lets a program outside of a machine speak to a named pipe inside: it prints the address of
// a TCP listener on loopback and forwards each connection to the pipe. It ends with its standard input.
//
//	bridge PIPE
package main

import (
	"fmt"
	"io"
	"net"
	"os"

	"github.com/Microsoft/go-winio"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: bridge PIPE")
		os.Exit(2)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bridge:", err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // any end of it is the end
		_ = ln.Close()
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go forward(c, os.Args[1])
	}
}

// forward ends with the side that ends first: nobody here half-closes. Without a pipe it hangs up.
func forward(c net.Conn, pipe string) {
	defer c.Close()
	p, err := winio.DialPipe(pipe, nil)
	if err != nil {
		return
	}
	defer p.Close()
	over := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // its end is the end of the conversation, whatever it was
		over <- struct{}{}
	}
	go pass(p, c)
	go pass(c, p)
	<-over
}
