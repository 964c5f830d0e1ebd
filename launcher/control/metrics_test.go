package control

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

func TestMetrics(t *testing.T) {
	st := Status{Product: "ac\"me", Channel: "stable", Running: true, Health: Unhealthy, Phase: journal.Probation, Seq: 12, ProbationLeftMS: 1500,
		Active: &Version{Number: "1.0.0"}, Candidate: &Version{Number: "1.1.0"}, Since: noon, Held: make([]journal.Mark, 2),
		Processes: []Process{
			{Number: "1.1.0", Role: "candidate", State: "accepting", PID: 8, Since: noon, Open: 3, Requests: 1e9 + 1, Restarts: 1},
			{Number: "1.0.0", Role: "active", State: "parked", PID: 7, Since: noon},
		},
		Trust: &Trust{Expires: noon}, Updates: map[updater.Outcome]int{updater.RolledBack: 2}}
	text := string(st.Metrics())
	for _, line := range []string{
		"# TYPE turnstone_up gauge",
		`turnstone_up{product="ac\"me"} 1`,
		`turnstone_healthy{product="ac\"me"} 0`,
		`turnstone_info{product="ac\"me",channel="stable",version="1.0.0",candidate="1.1.0",phase="probation"} 1`,
		`turnstone_probation_left_seconds{product="ac\"me"} 1.5`,
		`turnstone_held{product="ac\"me"} 2`,
		`turnstone_trust_expiry_timestamp_seconds{product="ac\"me"} 1.7953488e+09`,
		`turnstone_updates_total{product="ac\"me",outcome="rolled-back"} 2`,
		`turnstone_updates_total{product="ac\"me",outcome="committed"} 0`,
		`turnstone_payload_open_connections{product="ac\"me",version="1.1.0",role="candidate",pid="8",state="accepting"} 3`,
		`turnstone_payload_requests_total{product="ac\"me",version="1.1.0",role="candidate",pid="8"} 1.000000001e+09`,
		`turnstone_payload_requests_total{product="ac\"me",version="1.0.0",role="active",pid="7"} 0`,
	} {
		if !strings.Contains(text, line+"\n") && !strings.Contains(text, line+" ") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(text, "last_check") {
		t.Error("a check that never was has a time")
	}
	if down := string(Status{Product: "acme", Health: Unknown}.Metrics()); !strings.Contains(down, `turnstone_up{product="acme"} 0`) || strings.Contains(down, "turnstone_healthy{") {
		t.Errorf("a launcher that is down: %s", down)
	}
	if t.Failed() {
		t.Log(text)
	}
}

// What the running launcher counts itself, over the real socket: outcomes, and what its goroutines do.
func TestRuntimeIsAsked(t *testing.T) {
	srv, addr := serve(t, &desk{}, "")
	srv.Publish(updater.Event{Kind: "end", Outcome: updater.Committed})
	c := NewClient(addr)
	st, err := c.Status(t.Context())
	if err != nil || st.Updates[updater.Committed] != 1 || st.Runtime == nil || st.Runtime.Goroutines == 0 || st.Runtime.HeapBytes == 0 {
		t.Errorf("%v: %+v", err, st)
	}
	s, err := c.Stacks(t.Context())
	if err != nil || !strings.Contains(s.Text, "TestRuntimeIsAsked") {
		t.Errorf("%v: %.200s", err, s.Text)
	}
	res, err := c.send(t.Context(), http.MethodGet, "metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if kind := res.Header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") || json.NewDecoder(res.Body).Decode(new(any)) == nil {
		t.Errorf("metrics come as %s", kind)
	}
}
