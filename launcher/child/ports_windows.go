package child

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

var getExtendedTCPTable = windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")

// ownsPort compares the owners of the sockets that listen at addr with p's job.
func ownsPort(p *Process, addr string) error {
	want, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotOwner, err)
	}
	owners, err := listeningOwners(want)
	if err != nil {
		return err
	}
	if len(owners) == 0 {
		return fmt.Errorf("%w: nothing listens there", ErrNotOwner)
	}
	ours := map[uint32]bool{uint32(p.handle.pid): true}
	for _, d := range p.handle.descendants(p.rec.path) {
		ours[uint32(d.pid)] = true
		d.close()
	}
	for _, pid := range owners {
		if !ours[pid] {
			return fmt.Errorf("%w: process %d listens there", ErrNotOwner, pid)
		}
	}
	return nil
}

// listeningOwners returns the processes whose sockets a connection to addr may reach, wildcards included.
func listeningOwners(addr netip.AddrPort) ([]uint32, error) {
	var owners []uint32
	for _, family := range []uint32{windows.AF_INET, windows.AF_INET6} {
		table, err := tcpTable(family)
		if err != nil {
			return nil, err
		}
		owners = append(owners, matching(table, family, addr)...)
	}
	return owners, nil
}

// tcpTable returns MIB_TCPTABLE_OWNER_PID or MIB_TCP6TABLE_OWNER_PID.
func tcpTable(family uint32) ([]byte, error) {
	const ownerPIDListener = 3 // TCP_TABLE_OWNER_PID_LISTENER
	size := uint32(16 << 10)
	for range 10 { // it may grow between two calls
		b := make([]byte, size)
		code, _, _ := getExtendedTCPTable.Call(uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0,
			uintptr(family), ownerPIDListener, 0)
		switch err := syscall.Errno(code); {
		case code == 0:
			return b, nil
		case !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER):
			return nil, os.NewSyscallError("GetExtendedTcpTable", err)
		}
	}
	return nil, errors.New("the table of listening sockets does not stop growing")
}

// matching reads the rows. IPv4: state, address, port, remote address, remote port, pid, 4 bytes each. IPv6:
// address 16, scope, port, remote address 16, scope, port, state, pid. Ports are in network byte order in
// the first two bytes of their field.
func matching(table []byte, family uint32, addr netip.AddrPort) []uint32 {
	rowBytes, ipAt, ipBytes, portAt, pidAt := 24, 4, 4, 8, 20
	if family == windows.AF_INET6 {
		rowBytes, ipAt, ipBytes, portAt, pidAt = 56, 0, 16, 20, 52
	}
	n := int(binary.LittleEndian.Uint32(table))
	var pids []uint32
	for rows := table[4:]; n > 0 && len(rows) >= rowBytes; n, rows = n-1, rows[rowBytes:] {
		ip, _ := netip.AddrFromSlice(rows[ipAt : ipAt+ipBytes]) // 4 or 16 bytes always fit
		ip = ip.Unmap()
		same := ip == addr.Addr().Unmap() || ip.IsUnspecified()
		if same && binary.BigEndian.Uint16(rows[portAt:]) == addr.Port() {
			pids = append(pids, binary.LittleEndian.Uint32(rows[pidAt:]))
		}
	}
	return pids
}
