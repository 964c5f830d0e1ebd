package main

import (
	"fmt"
	"os"
)

// temp is a folder that lives as long as one command.
type temp struct{ path string }

func tempDir() (temp, error) {
	path, err := os.MkdirTemp("", "release-")
	if err != nil {
		return temp{}, fmt.Errorf("make a temporary folder: %w", err)
	}
	return temp{path}, nil
}

func (t temp) remove() { _ = os.RemoveAll(t.path) } // at worst a few files stay in the system's temporary folder
