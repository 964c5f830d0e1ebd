package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// source is the address of the nth source.
func source(n int) string { return native(fmt.Sprintf("/x/%d", n)) }

// What several sources say together. A source that says nothing in the table is never asked.
func TestSourcesTogether(t *testing.T) {
	older, expired := fmt.Errorf("timestamp.json: %w", manifest.ErrOlder), fmt.Errorf("x: %w", manifest.ErrExpired)
	lie, down, missing := fmt.Errorf("x: %w", manifest.ErrSignature), errors.New("no route"), fetch.ErrNotFound
	mixed := fmt.Errorf("snapshot: %w", manifest.ErrRollback) // what contradicts itself is no older truth
	full := fmt.Errorf("write: %w", durabletest.Full)
	const (
		good    = "good"
		refused = "refused"
		world   = "world"
	)
	for _, c := range []struct {
		name    string
		says    []error // nil is an answer
		want    string
		skipped int
	}{
		{"the first", []error{nil}, good, 0},
		{"the second, the first is down", []error{down, nil}, good, 1},
		{"the second, the first is older", []error{older, nil}, good, 1},
		{"the second, the first is past its time", []error{expired, nil}, good, 1},
		{"the second, the first lies", []error{lie, nil}, good, 1},
		{"the third", []error{missing, older, nil}, good, 2},
		{"all down", []error{down, down, missing}, world, 3},
		{"one older, the others down", []error{older, down, down}, world, 3},
		{"one past its time, the others down", []error{down, expired, missing}, world, 3},
		{"all past their time", []error{expired, expired, expired}, refused, 3},
		{"all older", []error{older, older, older}, refused, 3},
		{"older or past their time", []error{older, expired, older}, refused, 3},
		{"one lies, the others are down", []error{down, lie, down}, refused, 3},
		{"one lies, the others are older", []error{older, lie, older}, refused, 3},
		{"one contradicts itself, the others are down", []error{down, mixed, down}, refused, 3},
		{"the disk is full", []error{full}, world, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &feed{}
			skipped := 0
			f.tell = func(e updater.Event) {
				if e.Kind == "mirror" && strings.HasSuffix(e.Text, "was passed over") && e.Err != "" {
					skipped++
				}
			}
			var err error
			if f.source.Repository, err = fetch.Open(source(0), fetch.Options{Mirrors: []string{source(1), source(2)}}); err != nil {
				t.Fatal(err)
			}
			asked := 0
			err = f.anyOf(t.Context(), func(src *fetch.Repository) error {
				if want := source(asked); src.Address() != want || asked >= len(c.says) {
					t.Fatalf("asked %s, want %s", src.Address(), want)
				}
				asked++
				return c.says[asked-1]
			})
			got := good
			if err != nil {
				if got = world; isRefused(err) {
					got = refused
				}
			}
			if got != c.want || skipped != c.skipped {
				t.Errorf("%s, %d passed over: %v", got, skipped, err)
			}
			if got == world && (errors.Is(err, manifest.ErrVerify) || len(c.says) > 1 && errors.Is(err, fs.ErrNotExist)) {
				t.Errorf("nobody is to blame, and yet: %v", err)
			}
		})
	}
	one := &feed{}
	one.source.Repository, _ = fetch.Open(source(0), fetch.Options{})
	for says, want := range map[error]bool{older: true, expired: true, lie: true, down: false} {
		if err := one.anyOf(t.Context(), func(*fetch.Repository) error { return says }); isRefused(err) != want {
			t.Errorf("one source alone: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	two := &feed{}
	two.source.Repository, _ = fetch.Open(source(0), fetch.Options{Mirrors: []string{source(1)}})
	asked := 0
	if err := two.anyOf(ctx, func(*fetch.Repository) error { asked++; cancel(); return ctx.Err() }); asked != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v, asked %d", err, asked)
	}
}
