package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// binary is one file to be released for one platform.
type binary struct{ OS, Arch, Path string }

// Hosts compare with GOOS and GOARCH, so a release for any other name would reach none. These are the systems and
// processors of "go tool dist list".
var (
	systems    = strings.Fields("aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows")
	processors = strings.Fields("386 amd64 arm arm64 loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm")
)

var (
	platformName = regexp.MustCompile(`[_-](linux|windows|darwin|freebsd)[_-](amd64|arm64|386|arm|riscv64)(\.exe|\.tar\.gz|\.tgz|\.tar\.zst|\.zip)?$`)
	platformFlag = regexp.MustCompile(`^([a-z0-9]+)/([a-z0-9]+)=(.+)$`)
)

// binaries reads the files of a command line: those whose names end like name_1.0.0_linux_amd64, and
// those given as os/arch=FILE. Each platform may occur once.
func binaries(files, platforms []string) ([]binary, error) {
	var all []binary
	for _, file := range files {
		m := platformName.FindStringSubmatch(filepath.Base(file))
		if m == nil {
			return nil, usage("the name %s does not end in _OS_ARCH: give --platform linux/amd64=%s", filepath.Base(file), file)
		}
		all = append(all, binary{m[1], m[2], file})
	}
	for _, p := range platforms {
		m := platformFlag.FindStringSubmatch(p)
		if m == nil {
			return nil, usage("--platform %s: write it as os/arch=FILE, for instance linux/amd64=dist/agent", p)
		}
		if !slices.Contains(systems, m[1]) || !slices.Contains(processors, m[2]) {
			return nil, usage("--platform %s: no host is %s/%s: name the platform as Go does, for instance linux/amd64, linux/arm64 or windows/amd64", p, m[1], m[2])
		}
		all = append(all, binary{m[1], m[2], m[3]})
	}
	if len(all) == 0 {
		return nil, usage("no files: give files named like agent_1.0.0_linux_amd64, or --platform os/arch=FILE")
	}
	return all, onePerPlatform(all)
}

func onePerPlatform(all []binary) error {
	seen := map[string]string{}
	for _, b := range all {
		platform := b.OS + "/" + b.Arch
		if other, twice := seen[platform]; twice {
			return usage("%s has two files, %s and %s: a version has one per platform", platform, other, b.Path)
		}
		seen[platform] = b.Path
	}
	return nil
}
