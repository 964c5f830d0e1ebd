package host

import "io"

func hold(string) (io.Closer, error) { return nothing{}, nil }
