// Command payload is what the tests of the launcher run: a service that is as good or bad as its release says.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/turnstone-go/turnstone/payload"
)

func main() {
	if len(os.Args) == 3 && os.Args[2] == "--self-check" {
		selfCheck(os.Args[1])
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve is an HTTP service that answers with its version. The words of the release make it a bad one; where it
// lies on a disk in memory its name has them.
func serve(release string) error {
	b, err := os.ReadFile(release)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(filepath.Base(release))
	} else if err != nil {
		return err
	}
	is := func(word string) bool { return strings.Contains(string(b), word) }
	if is("speak") {
		fmt.Println(payload.Version(), "speaks")
	}
	if is("die-at-start") {
		os.Exit(3)
	}
	for is("slow-start") {
		if _, err := os.Stat(filepath.Join(filepath.Dir(os.Getenv("LEASE_FILE")), "go-on")); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	ln, err := payload.Listen("http", "127.0.0.1:0")
	if err != nil {
		return err
	}
	payload.OnPark(func(parked bool) {
		if !parked && is("die-on-accept") {
			os.Exit(4)
		}
	})
	if file := os.Getenv("LEASE_FILE"); file != "" {
		go own(file)
	}
	if !is("never-ready") {
		if err := payload.Ready(); err != nil {
			return err
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, payload.Version()) })
	mux.HandleFunc("/stay", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush() // who has gone is not waited for
		<-r.Context().Done()
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if is("unhealthy") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return payload.Serve(&http.Server{Handler: mux}, ln)
}

// own works under the lease. A kernel lock shows whether another process does at the same time; it writes what
// it finds as a line "fence" or "two owners".
func own(file string) {
	log, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	for {
		h, err := payload.Lease(context.Background())
		if err != nil {
			return
		}
		if err := syscall.Flock(int(log.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			fmt.Fprintln(log, "two owners")
		}
		fmt.Fprintln(log, h.Fence())
		<-h.Context().Done()
		_ = syscall.Flock(int(log.Fd()), syscall.LOCK_UN)
		h.Release()
	}
}

// selfCheck is the program that checks itself: what its file holds is what it finds.
func selfCheck(file string) {
	b, err := os.ReadFile(file)
	dir, _ := os.Getwd()
	switch {
	case err != nil:
		fmt.Println(err)
		os.Exit(5)
	case strings.Contains(string(b), "unfit"):
		fmt.Println("needs a newer kernel, in", filepath.Base(dir), os.Getenv("TURNSTONE_VERSION"))
		os.Exit(3)
	case strings.Contains(string(b), "hang"):
		time.Sleep(time.Hour)
	}
	os.Exit(0)
}
