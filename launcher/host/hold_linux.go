package host

import "io"

func hold(string) (io.Closer, error) { return nothing{}, nil }

// nothing is a closer of nothing.
type nothing struct{}

func (nothing) Close() error { return nil }
