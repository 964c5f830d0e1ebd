package child

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tcpListen is TCP_LISTEN in the st column of /proc/net/tcp.
const tcpListen = "0A"

// ownsPort compares the sockets that listen at addr with the descriptors of p's processes, by inode.
func ownsPort(p *Process, addr string) error {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotOwner, err)
	}
	inodes, err := listening(want)
	if err != nil {
		return err
	}
	if len(inodes) == 0 {
		return fmt.Errorf("%w: nothing listens there", ErrNotOwner)
	}
	pids := []int{p.handle.pid}
	for _, s := range p.handle.tree(p.rec.path) {
		pids = append(pids, s.pid)
	}
	for _, pid := range pids {
		for _, inode := range socketsOf(pid) {
			inodes = slices.DeleteFunc(inodes, func(i string) bool { return i == inode })
		}
		if len(inodes) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: another process listens there", ErrNotOwner)
}

// listening returns the inodes of the sockets that a connection to addr may reach, wildcards included.
func listening(addr netip.AddrPort) ([]string, error) {
	var inodes []string
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, err
		}
		found, err := scanListening(f, addr)
		_ = f.Close() // only read
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		inodes = append(inodes, found...)
	}
	return inodes, nil
}

// scanListening reads the table of proc_pid_net(5): "sl local_address rem_address st ... inode".
func scanListening(r io.Reader, addr netip.AddrPort) ([]string, error) {
	var inodes []string
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[3] != tcpListen {
			continue
		}
		local, err := kernelAddr(f[1])
		if err != nil {
			return nil, err
		}
		same := local.Addr() == addr.Addr().Unmap() || local.Addr().IsUnspecified()
		if same && local.Port() == addr.Port() {
			inodes = append(inodes, f[9])
		}
	}
	return inodes, lines.Err()
}

// kernelAddr parses "0100007F:1F90": 32-bit words in the machine's byte order, then the port in hex.
func kernelAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("not a socket address: %q", s)
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	ip, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil || !ok {
		return netip.AddrPort{}, fmt.Errorf("not a socket address: %q", s)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

// socketsOf returns the inodes of the sockets that a process holds; none if it has ended.
func socketsOf(pid int) []string {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var inodes []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}
