//go:build windows

// Command locker keeps files to itself, as a virus scanner or a backup does: it opens every file that matches,
// now or later, without sharing it, and prints its name. It lets go when its standard input ends.
//
//	locker PATTERN...      filepath.Glob
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/windows"
)

func main() {
	over := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // any end of it is the end
		close(over)
	}()
	fmt.Println("ready")
	held := map[string]bool{}
	for {
		for _, pattern := range os.Args[1:] {
			files, err := filepath.Glob(pattern)
			if err != nil {
				fmt.Fprintln(os.Stderr, "locker:", err)
				os.Exit(2)
			}
			for _, file := range files {
				if !held[file] && hold(file) == nil {
					held[file] = true
					fmt.Println("held", file)
				}
			}
		}
		select {
		case <-over:
			return // and with us the handles
		case <-time.After(time.Millisecond):
		}
	}
}

// hold fails while somebody else has the file open.
func hold(file string) error {
	name, err := windows.UTF16PtrFromString(file)
	if err != nil {
		return err
	}
	_, err = windows.CreateFile(name, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	return err
}
