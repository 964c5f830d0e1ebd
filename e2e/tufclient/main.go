// Command tufclient is a TUF client over package manifest, for tests only. Its command line is the one that
// the conformance suite of The Update Framework asks of a client, so that this suite, and others that speak
// to it, can be pointed at the walk which the launcher takes through signed metadata:
//
//	tufclient --metadata-dir D init ROOT
//	tufclient --metadata-dir D --metadata-url U refresh
//	tufclient --metadata-dir D --metadata-url U --target-name T --target-base-url B --target-dir D2 download
//
// It ends with 0, or with 1 and a line on standard error. What it trusts lies in D as root.json,
// timestamp.json, snapshot.json, targets.json and ROLE.json, each written as soon as it is verified; every
// root it has seen lies in D/roots. The rules of a product (its documents, its layout, its names) do not
// apply: the repository may be any.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tufclient:", err)
		os.Exit(1)
	}
}

// texts is a flag that may be repeated.
type texts []string

func (t *texts) String() string     { return fmt.Sprint(*t) }
func (t *texts) Set(s string) error { *t = append(*t, s); return nil }

func run(ctx context.Context, args []string) error {
	var c client
	var names texts
	flags := flag.NewFlagSet("tufclient", flag.ContinueOnError)
	flags.StringVar(&c.dir, "metadata-dir", "", "the folder of trusted metadata")
	flags.StringVar(&c.metadataURL, "metadata-url", "", "where the repository's metadata is")
	flags.StringVar(&c.targetURL, "target-base-url", "", "where the repository's targets are")
	flags.StringVar(&c.targetDir, "target-dir", "", "the folder for downloads")
	flags.Var(&names, "target-name", "a target to download; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if c.dir == "" {
		return errors.New("--metadata-dir is missing")
	}
	now, err := fakeTime(os.Getenv("FAKETIME"), time.Now())
	if err != nil {
		return err
	}
	switch cmd := flags.Arg(0); {
	case cmd == "init" && flags.NArg() == 2:
		return c.init(flags.Arg(1))
	case cmd == "refresh" && flags.NArg() == 1 && c.metadataURL != "":
		return c.download(ctx, now, nil)
	case cmd == "download" && flags.NArg() == 1 && c.metadataURL != "" && c.targetURL != "" && c.targetDir != "" && len(names) > 0:
		return c.download(ctx, now, names)
	}
	return errors.New("usage: tufclient FLAGS init ROOT | refresh | download")
}
