package host

import (
	"fmt"
	"strings"
)

// Unit returns the systemd unit of a service. Why each line is there:
//
//   - Type=notify: the launcher says when it works, when it reloads and when it drains.
//   - KillMode=process: a payload outlives its launcher, which finds it again; what nobody finds is ended by
//     ExecStopPost.
//   - Restart, RestartSec, StartLimitIntervalSec: whatever happens to the launcher, it is started again at
//     once and for ever. A wrong configuration waits for a person: see Status.
//   - WatchdogSec: a launcher that hangs is one that died. Its payloads go on meanwhile.
//   - FileDescriptorStoreMax: systemd keeps the public sockets while the launcher is being restarted.
//   - RuntimeDirectoryPreserve: the folder of sockets that living payloads use must not go with the launcher.
//   - OOMPolicy=continue: a payload that is killed for its memory does not take the launcher with it.
//   - TimeoutStopSec bounds silence: while the launcher drains it asks for more time.
func Unit(s Spec) string {
	wanted := "multi-user.target"
	return fmt.Sprintf(`# Written by %[1]q install. Changes belong into a drop-in: systemctl edit %[2]s
[Unit]
Description=%[3]s
Wants=network-online.target
After=network-online.target%[4]s
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart=%[5]s
ExecReload=/bin/kill -HUP $MAINPID
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

[Install]
WantedBy=%[7]s
`, s.Exe, s.Name, oneLine(s.Description, s.Display), after(s.Needs), s.command(), s.reap(), wanted)
}

// reap is the command that ends what the launcher left when it ended for good.
func (s Spec) reap() string {
	r := s
	r.Args = append([]string{"reap"}, s.Args[1:]...)
	return r.command()
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
