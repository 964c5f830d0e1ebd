package durabletest

import "golang.org/x/sys/windows"

// Full is what this system says when a disk is full.
const Full = windows.ERROR_DISK_FULL
