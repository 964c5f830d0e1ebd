package host

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Unit returns the systemd unit of a service. Why each line is there:
//
//   - Type=notify: the launcher says when it works, when it reloads and when it drains.
//   - KillMode=process: a payload outlives its launcher, which finds it again; what nobody finds is ended by
//     ExecStopPost.
//   - Restart, RestartSec, StartLimitIntervalSec: whatever happens to the launcher, it is started again at
//     once and for ever. A wrong configuration waits for a person: see Status.
//   - ExecReload: the shell has kill built in, and /bin/kill is not on every system.
//   - WatchdogSec: a launcher that hangs is one that died. Its payloads go on meanwhile.
//   - FileDescriptorStoreMax: systemd keeps the public sockets while the launcher is being restarted.
//   - RuntimeDirectoryPreserve: the folder of sockets that living payloads use must not go with the launcher.
//   - OOMPolicy=continue: a payload that is killed for its memory does not take the launcher with it.
//   - TimeoutStopSec bounds silence: while the launcher drains it asks for more time.
//   - After=network.target and not network-online.target: what is installed is served without any network, and
//     an address that is not there yet is tried again.
//   - The sandbox is the payload's too. It stops where programs that compile while they run (node, Java, .NET) or
//     that look at the machine would not work; docs/SYSTEMD.md has a line for each setting, the absent ones too.
//     PrivateTmp must stay absent: systemd empties such a folder when the launcher dies, under living payloads.
func Unit(s Spec) string {
	return fmt.Sprintf(`# Written by %[1]q install. Changes belong into a drop-in: systemctl edit %[2]s
[Unit]
Description=%[3]s
After=network.target%[4]s
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=%[5]s
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
ExecStopPost=%[6]s
KillMode=process
Restart=always
RestartSec=100ms
RestartPreventExitStatus=78
TimeoutStartSec=60
TimeoutStopSec=30
WatchdogSec=30
FileDescriptorStoreMax=64
RuntimeDirectory=%[2]s
RuntimeDirectoryPreserve=yes
OOMPolicy=continue
LimitNOFILE=524288
UMask=0022
%[7]s
[Install]
WantedBy=multi-user.target
`, s.Exe, s.Name, oneLine(s.Description, s.Display), after(s.Needs), s.command(), s.reap(), s.sandbox())
}

// reap is the command that ends what the launcher left when it ended for good. It has the same configuration.
func (s Spec) reap() string {
	r := s
	r.Args = []string{"reap"}
	for i, arg := range s.Args {
		if (arg == "--config" || arg == "--name") && i+1 < len(s.Args) {
			r.Args = append(r.Args, arg, s.Args[i+1])
		}
	}
	return r.command()
}

// sandbox is what neither the launcher nor its payloads need. The launcher's own folder and the state must be
// writable wherever they are.
func (s Spec) sandbox() string {
	return fmt.Sprintf(`
NoNewPrivileges=yes
ProtectSystem=full
ReadWritePaths="-%[1]s" "-%[2]s"
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_SYS_PTRACE
`, s.State, filepath.Dir(s.Exe))
}

func oneLine(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return strings.Join(strings.Fields(t), " ")
		}
	}
	return ""
}

func after(needs []string) string {
	text := ""
	for _, n := range needs {
		if !strings.Contains(n, ".") {
			n += ".service"
		}
		text += " " + n
	}
	if text != "" {
		text += "\nRequires=" + strings.TrimSpace(text)
	}
	return text
}
