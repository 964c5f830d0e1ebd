package control

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// Runtime is what the launcher process itself needs.
type Runtime struct {
	Goroutines int    `json:"goroutines"`
	HeapBytes  uint64 `json:"heap_bytes"` // in use
}

func measure() *Runtime {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return &Runtime{Goroutines: runtime.NumGoroutine(), HeapBytes: m.HeapInuse}
}

// outcomes are those that an update can have, so that a counter is there before it counts.
var outcomes = []updater.Outcome{updater.Committed, updater.RolledBack, updater.Stranded, updater.Discarded}

// metrics is a text in the Prometheus exposition format, version 0.0.4.
type metrics struct {
	bytes.Buffer
	labels string // of every sample: the product
}

// sample is one value with its own labels, NAME and VALUE in turn.
type sample struct {
	value  float64
	labels []string
}

// one is the only sample of a family.
func one(v float64) []sample { return []sample{{value: v}} }

func flag(b bool) []sample {
	if b {
		return one(1)
	}
	return one(0)
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// family prints one metric; without a sample nothing, since what is not known is not 0.
func (m *metrics) family(kind, name, help string, samples []sample) {
	if len(samples) == 0 {
		return
	}
	fmt.Fprintf(m, "# HELP turnstone_%s %s\n# TYPE turnstone_%[1]s %[3]s\n", name, help, kind)
	for _, s := range samples {
		labels := m.labels
		for i := 0; i+1 < len(s.labels); i += 2 {
			labels += "," + label(s.labels[i], s.labels[i+1])
		}
		fmt.Fprintf(m, "turnstone_%s{%s} %s\n", name, labels, strconv.FormatFloat(s.value, 'g', -1, 64))
	}
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func label(name, value string) string { return name + `="` + escape.Replace(value) + `"` }

// at is the sample of a time that may not be known.
func at(t time.Time) []sample {
	if t.IsZero() {
		return nil
	}
	return one(seconds(t))
}

// Metrics returns the status as Prometheus text. Times are Unix seconds.
func (st Status) Metrics() []byte {
	m := &metrics{labels: label("product", st.Product)}
	m.family("gauge", "up", "Whether the launcher runs.", flag(st.Running))
	if st.Health == Healthy || st.Health == Unhealthy {
		m.family("gauge", "healthy", "Whether the active version serves and passes its probe.", flag(st.Health == Healthy))
	}
	m.family("gauge", "info", "What is active, and where the update stands.", []sample{{1, []string{
		"channel", st.Channel, "version", st.Active.number(), "candidate", st.Candidate.number(), "phase", string(st.Phase)}}})
	m.family("gauge", "journal_sequence", "Writes of the journal since the installation.", one(float64(st.Seq)))
	m.family("gauge", "probation_left_seconds", "What the candidate still has to pass.", one(float64(st.ProbationLeftMS)/1000))
	m.family("gauge", "paused", "Whether an operator stopped updates.", flag(st.Pause != nil))
	m.family("gauge", "pinned", "Whether an operator chose the version.", flag(st.Pin != nil))
	m.family("gauge", "quarantined", "Versions that failed here.", one(float64(len(st.Quarantine))))
	m.family("gauge", "held", "Versions that an operator or a crash loop turned away.", one(float64(len(st.Held))))
	m.family("gauge", "alarm", "Whether the launcher has raised an alarm since it started.", flag(st.Alarm != ""))
	m.family("gauge", "check_failed", "Whether the last look at the channel got no answer.", flag(st.CheckError != ""))
	m.family("gauge", "last_check_timestamp_seconds", "When the channel was last read.", at(st.LastCheck))
	m.family("gauge", "start_timestamp_seconds", "When the launcher started.", at(st.Since))
	if st.Trust != nil {
		m.family("gauge", "trust_expiry_timestamp_seconds", "When the signed metadata expires, and updates stop.", at(st.Trust.Expires))
	}
	m.updates(st.Updates)
	m.processes(st.Processes)
	if r := st.Runtime; r != nil {
		m.family("gauge", "launcher_goroutines", "Goroutines of the launcher.", one(float64(r.Goroutines)))
		m.family("gauge", "launcher_heap_bytes", "Heap of the launcher in use.", one(float64(r.HeapBytes)))
	}
	return m.Bytes()
}

func (m *metrics) updates(counts map[updater.Outcome]int) {
	var ended []sample
	for _, o := range outcomes {
		ended = append(ended, sample{float64(counts[o]), []string{"outcome", string(o)}})
	}
	m.family("counter", "updates_total", "Updates that ended since the launcher started.", ended)
}

func (m *metrics) processes(list []Process) {
	var open, requests, restarts, since []sample
	for _, p := range list {
		labels := slices.Clip([]string{"version", p.Number, "role", p.Role, "pid", strconv.Itoa(p.PID)})
		open = append(open, sample{float64(p.Open), append(labels, "state", p.State)})
		requests = append(requests, sample{float64(p.Requests), labels})
		restarts = append(restarts, sample{float64(p.Restarts), labels})
		since = append(since, sample{seconds(p.Since), labels})
	}
	m.family("gauge", "payload_open_connections", "Connections of one payload process.", open)
	m.family("counter", "payload_requests_total", "Requests that one payload process answered.", requests)
	m.family("counter", "payload_restarts_total", "Restarts of the version by this launcher.", restarts)
	m.family("gauge", "payload_start_timestamp_seconds", "When the payload process started.", since)
}

func (v *Version) number() string {
	if v == nil {
		return ""
	}
	return v.Number
}

// metrics answers a scraper that reaches the control socket.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if !s.allowed(w, r, false) {
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(s.status().Metrics()) // a scraper that went away asks again
}

// maxStacks bounds the text of stacks.
const maxStacks = 4 << 20

// Stacks is what every goroutine of a launcher does, for a bug report.
type Stacks struct {
	Text string `json:"text"`
}

func stacks(http.ResponseWriter, *http.Request) (any, error) {
	buf := make([]byte, maxStacks)
	return Stacks{string(buf[:runtime.Stack(buf, true)])}, nil
}
