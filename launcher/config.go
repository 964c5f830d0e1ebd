package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// Config is one launcher.toml: checked, with every default filled in and every path absolute.
type Config struct {
	Product    string           `toml:"product"`
	Repository RepositoryConfig `toml:"repository"`
	State      StateConfig      `toml:"state"`
	Listen     []ListenConfig   `toml:"listen"`
	Payload    PayloadConfig    `toml:"payload"`
	Traffic    TrafficConfig    `toml:"traffic"`
	Health     HealthConfig     `toml:"health"`
	Probation  ProbationConfig  `toml:"probation"`
	Update     UpdateConfig     `toml:"update"`
	Drain      DrainConfig      `toml:"drain"`
	Control    ControlConfig    `toml:"control"`
	Log        LogConfig        `toml:"log"`
	Launcher   LauncherConfig   `toml:"launcher"`

	File string `toml:"-"` // absolute path of the file that this came from
}

// RepositoryConfig is where releases come from and whose word is believed about them.
type RepositoryConfig struct {
	URL     string        `toml:"url"`     // http, https or file URL, or an absolute path
	Channel string        `toml:"channel"` // default "stable"
	Root    string        `toml:"root"`    // file with the first trusted root.json
	Poll    time.Duration `toml:"poll"`    // default 5m

	Mirrors    []string `toml:"mirrors"`     // where the same files are, asked in this order after URL
	Proxy      string   `toml:"proxy"`       // http, https or socks5 URL, or "environment"; default none
	ProxyLogin string   `toml:"proxy_login"` // file with user:password
	CA         string   `toml:"ca"`          // PEM file: who is believed about web servers; default the system's
	ClientCert string   `toml:"client_cert"` // PEM file that this host shows to them
	ClientKey  string   `toml:"client_key"`  // PEM file, of the certificate
	MaxRate    Rate     `toml:"max_rate"`    // of downloads; default no limit

	// MaxStaleness is how long after its expiry metadata is still taken; default 0, not at all.
	MaxStaleness time.Duration `toml:"max_staleness"`
}

// StateConfig is the folder that the launcher alone writes.
type StateConfig struct {
	Dir string `toml:"dir"`
}

// ListenConfig is one public socket.
type ListenConfig struct {
	Name    string `toml:"name"`
	Address string `toml:"address"` // "host:port", or "unix:/path"
}

// Network is the listener's address in the form of net.Listen.
func (l ListenConfig) Network() (network, address string) {
	network, address, _ = splitAddress(l.Address)
	return network, address
}

// PayloadConfig is how a version is started.
type PayloadConfig struct {
	Command []string          `toml:"command"` // templates over CommandData; default ["{{.Exe}}"]
	Kind    string            `toml:"kind"`    // sdk, plain or activation
	User    string            `toml:"user"`    // account name, or "same"
	Env     map[string]string `toml:"env"`     // values are templates too
	Data    string            `toml:"data"`    // the only folder that the payload may write; default STATE/data
	// CrashLoop is what is done with an active version that ends five times in a row within a minute each:
	// "rollback" (default) to the version before it, or "stay".
	CrashLoop string `toml:"crash_loop" json:"-"` // makes no version fail, so it is no part of the Hash
	// RestartPause is the wait before the second restart of a version that keeps ending; it doubles up to five minutes.
	RestartPause time.Duration `toml:"restart_pause" json:"-"` // default 5s
}

// TrafficConfig is how connections reach the payload.
type TrafficConfig struct {
	Mode     string `toml:"mode"`     // handoff or proxy; the default follows payload.kind
	Strategy string `toml:"strategy"` // parallel or exclusive; the default follows payload.kind
}

// HealthConfig is what makes a candidate ready.
type HealthConfig struct {
	Probe        string        `toml:"probe"`         // http, tcp, exec or none; the default follows payload.kind
	Path         string        `toml:"path"`          // http: default "/healthz"
	Command      []string      `toml:"command"`       // exec: templates over CommandData
	Interval     time.Duration `toml:"interval"`      // default 1s
	Timeout      time.Duration `toml:"timeout"`       // of one probe; default 2s
	Good         int           `toml:"good"`          // probes in a row; default 3
	ReadyTimeout time.Duration `toml:"ready_timeout"` // from start to ready; default 1m
	Notify       bool          `toml:"notify"`        // wait for READY=1 (sd_notify) before the first probe
	SelfCheck    []string      `toml:"self_check"`    // run once before a version is started; templates over CommandData
}

// ProbationConfig is how long, and by what, a switched candidate is judged.
type ProbationConfig struct {
	Time        time.Duration `toml:"time"`         // default 10m
	MinRequests uint64        `toml:"min_requests"` // default 100
	Fall        int           `toml:"fall"`         // failed probes in a row; default 3
	Errors      float64       `toml:"errors"`       // share of 5xx answers above the baseline's; default 0.05
	MemoryMB    int           `toml:"memory_mb"`    // MiB that its processes may take together; default 0: any
}

// UpdateConfig is what an update does beside what every update does.
type UpdateConfig struct {
	BeforeSwitch []string      `toml:"before_switch"`          // templates over CommandData; run before the traffic moves; default none
	Timeout      time.Duration `toml:"before_switch_timeout"`  // default 5m
	SpaceMB      int           `toml:"before_switch_space_mb"` // MiB that must be free where payload.data is; default 0
}

// DrainConfig bounds how a version ends.
type DrainConfig struct {
	Deadline time.Duration `toml:"deadline"` // what is still open is then cut and counted; default 30s
	Idle     time.Duration `toml:"idle"`     // grace of an idle connection; default 5s
	Stream   time.Duration `toml:"stream"`   // upgraded connections; default 5m
	Kill     time.Duration `toml:"kill"`     // from the request to stop to the kill; default 10s
	Stop     time.Duration `toml:"stop"`     // of the launcher: all of the above together have no longer; default 30s
}

// ControlConfig is the operators' socket.
type ControlConfig struct {
	Socket    string `toml:"socket"`     // default: control.Address
	ReadGroup string `toml:"read_group"` // members may read, never write
}

// LogConfig is what the launcher says while it runs.
type LogConfig struct {
	Level slog.Level `toml:"level"` // debug, info, warn or error; default info
}

// LauncherConfig is how the launcher replaces itself by a newer one.
type LauncherConfig struct {
	Channel string        `toml:"channel"` // of the same repository, with releases that are launchers; default none: never
	Trial   time.Duration `toml:"trial"`   // for a new one to report in; default 1m
}

// Hash identifies what of the configuration can make a version fail: a quarantined digest is tried again
// when this changes. It leaves out what only the launcher feels, such as the poll interval.
func (c Config) Hash() string {
	b, err := json.Marshal([]any{c.Listen, c.Payload, c.Traffic, c.Health, c.Probation})
	if err != nil {
		panic("launcher: internal error: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// maxConfigBytes bounds the file: a real one has 2 KiB.
const maxConfigBytes = 1 << 20

// errUnread is returned when the file that was named cannot be read.
var errUnread = errors.New("open configuration")

// loadConfig reads and checks a file. On a *configError the Config holds what could be understood.
func loadConfig(name string) (Config, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return Config{}, fmt.Errorf("open configuration: %w", err)
	}
	f, err := os.Open(abs)
	if err != nil {
		return Config{}, exit(control.Usage, "%w: %w\nuse --config FILE to name it", errUnread, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return Config{}, exit(control.Usage, "%w: %w\nuse --config FILE to name it", errUnread, err)
	}
	if len(data) > maxConfigBytes {
		return Config{}, exit(control.Usage, "read %s: longer than %d bytes, so it is not a configuration file", abs, maxConfigBytes)
	}
	return parseConfig(abs, data, host.Privileged())
}

// parseConfig is loadConfig on bytes. file must be absolute: relative paths inside start at its folder.
// root tells whether the launcher runs with all rights, so that the payload's account must be stated.
func parseConfig(file string, data []byte, root bool) (Config, error) {
	doc, err := parseDocument(file, data)
	if err != nil {
		return Config{File: file}, err
	}
	c := defaultConfig()
	c.File = file
	doc.decode(&c)
	c.finish(doc, root)
	doc.check(&c, root)
	return c, doc.err()
}

func defaultConfig() Config {
	return Config{
		Repository: RepositoryConfig{Channel: "stable", Poll: 5 * time.Minute},
		Payload:    PayloadConfig{Command: []string{"{{.Exe}}"}, Kind: "sdk", CrashLoop: "rollback", RestartPause: firstPause},
		Health: HealthConfig{
			Probe: "http", Path: "/healthz", Interval: time.Second, Timeout: 2 * time.Second, Good: 3, ReadyTimeout: time.Minute,
		},
		Probation: ProbationConfig{Time: 10 * time.Minute, MinRequests: 100, Fall: 3, Errors: 0.05},
		Update:    UpdateConfig{Timeout: 5 * time.Minute},
		Drain:     DrainConfig{Deadline: 30 * time.Second, Idle: 5 * time.Second, Stream: 5 * time.Minute, Kill: 10 * time.Second, Stop: 30 * time.Second},
		Launcher:  LauncherConfig{Trial: time.Minute},
	}
}

// finish fills the defaults that follow from other keys and makes paths absolute.
func (c *Config) finish(doc *document, root bool) {
	dir := filepath.Dir(c.File)
	absolute := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	absolute(&c.State.Dir)
	for _, file := range []*string{&c.Repository.Root, &c.Repository.ProxyLogin, &c.Repository.CA, &c.Repository.ClientCert, &c.Repository.ClientKey} {
		absolute(file)
	}
	orElse(&c.Payload.Data, c.stateFile("data"))
	absolute(&c.Payload.Data)
	if c.State.Dir != "" {
		orElse(&c.Control.Socket, control.Address(c.State.Dir, c.Product))
	}
	absolute(&c.Control.Socket)
	if !root {
		orElse(&c.Payload.User, child.Same)
	}
	if k, ok := kinds[c.Payload.Kind]; ok {
		orElse(&c.Traffic.Mode, k.modes[0])
		orElse(&c.Traffic.Strategy, k.strategies[0])
		if !doc.has("health.probe") {
			c.Health.Probe = k.probe
		}
	}
}

// stateFile is the path of something in the state folder, or "" without one.
func (c *Config) stateFile(name string) string {
	if c.State.Dir == "" {
		return ""
	}
	return filepath.Join(c.State.Dir, name)
}

func orElse(s *string, def string) {
	if *s == "" {
		*s = def
	}
}

// errNoConfig is returned when no file was named and none is in a usual place.
var errNoConfig = errors.New("no configuration file")

const configBase = "launcher.toml"

// findConfig is the file that is used without --config: in the working folder, beside the program as a vendor ships
// it, or where this system keeps such things.
func findConfig(program, beside string) (string, error) {
	places := []string{configBase}
	if beside != "" {
		places = append(places, filepath.Join(beside, configBase))
	}
	places = append(places, usualConfig(program))
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: looked for %s\nuse --config FILE to name it", errNoConfig, list(places))
}

// usualConfig is below ProgramData, or in /etc where there is none.
func usualConfig(program string) string {
	if d := os.Getenv("ProgramData"); d != "" {
		return filepath.Join(d, program, configBase)
	}
	return filepath.Join("/etc", program, configBase)
}
