package durabletest

import "syscall"

// Full is what this system says when a disk is full.
const Full = syscall.ENOSPC
