package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// Bounds on a request and its answer.
const (
	maxBody    = 64 << 10
	maxHeader  = 16 << 10
	slow       = 5 * time.Second  // a request must be here, and an answer gone, in this time
	checkLimit = 60 * time.Second // a check reads from the network
	heartbeat  = 15 * time.Second // an empty line to followers, so that a dead one is noticed
)

// Server answers clients from a Backend.
type Server struct {
	backend Backend
	log     *slog.Logger
	hub     hub
}

// NewServer makes a server; Serve runs it.
func NewServer(b Backend, log *slog.Logger) *Server { return &Server{backend: b, log: log} }

// Publish hands an event to every follower. It never waits.
func (s *Server) Publish(ev updater.Event) { s.hub.publish(ev) }

// Serve answers until ctx ends, closes the listener, lets running requests finish for a second, and returns
// nil; or the error that ended it before.
func (s *Server) Serve(ctx context.Context, ln *Listener) error {
	srv := &http.Server{
		Handler:        s.routes(),
		ReadTimeout:    slow,
		WriteTimeout:   slow, // check and events set their own
		IdleTimeout:    slow,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, c.(*client).caller)
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
	}
	s.hub.close() // followers see the end of the stream
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close()
	}
	<-ended
	return err
}

type callerKey struct{}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.read(func(*http.Request) (any, error) { return s.status(), nil }))
	mux.HandleFunc("GET /v1/metrics", s.metrics)
	mux.HandleFunc("GET /v1/stacks", s.write(stacks))
	mux.HandleFunc("GET /v1/why", s.read(func(r *http.Request) (any, error) {
		return s.why().about(r.FormValue("version"))
	}))
	mux.HandleFunc("GET /v1/history", s.read(s.history))
	mux.HandleFunc("GET /v1/quarantine", s.read(func(*http.Request) (any, error) {
		st := s.backend.Status()
		return Quarantine{Quarantine: st.Quarantine, Held: st.Held}, nil
	}))
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/check", s.write(s.check))
	mux.HandleFunc("POST /v1/self-update", s.write(s.renew))
	for verb := range verbs {
		mux.HandleFunc("POST /v1/"+verb, s.write(func(w http.ResponseWriter, r *http.Request) (any, error) { return s.order(verb, w, r) }))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, &Error{Usage, fmt.Sprintf("no %s %s here: the launcher and its command line have different versions", r.Method, r.URL.Path)})
	})
	return mux
}

// status is the backend's, with what this process counts.
func (s *Server) status() Status {
	st := s.backend.Status()
	st.Updates, st.Runtime = s.hub.outcomes(), measure()
	return st
}

// read wraps a question.
func (s *Server) read(answer func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(w, r, false) {
			return
		}
		v, err := answer(r)
		s.answer(w, v, err)
	}
}

// write wraps whatever only an administrator may do.
func (s *Server) write(act func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.allowed(w, r, true) {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		v, err := act(w, r)
		s.answer(w, v, err)
	}
}

func (s *Server) allowed(w http.ResponseWriter, r *http.Request, change bool) bool {
	who, _ := r.Context().Value(callerKey{}).(caller)
	if who.admin || who.reader && !change {
		return true
	}
	s.log.Warn("control request refused", "caller", who.name, "request", r.Method+" "+r.URL.Path)
	s.fail(w, http.StatusForbidden, &Error{NoPrivilege, who.name + " may not do this: run the command as an administrator (sudo)"})
	return false
}

func (s *Server) history(r *http.Request) (any, error) {
	limit := 20
	if t := r.FormValue("limit"); t != "" {
		var err error
		if limit, err = strconv.Atoi(t); err != nil || limit < 1 || limit > maxEntries {
			return nil, &Error{Usage, fmt.Sprintf("limit must be a number from 1 to %d", maxEntries)}
		}
	}
	entries, err := s.backend.History(limit)
	return History{Entries: entries}, err
}

func (s *Server) why() Why {
	st := s.backend.Status()
	if st.Why == nil {
		return NewWhy("", time.Time{}, nil)
	}
	return *st.Why
}

// decode reads one strict JSON value; no body at all is an empty one.
func decode(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			err = errors.New("more than one JSON value")
		}
	}
	var long *http.MaxBytesError
	if err == nil || errors.As(err, &long) {
		return err
	}
	return &Error{Usage, "read the request: " + err.Error()}
}

// events streams JSON lines until the follower leaves. The header is sent once the follower is on the
// list, so that what a client orders afterwards is certain to be in its stream.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if !s.allowed(w, r, false) {
		return
	}
	ch := s.hub.follow(maxFollowers)
	if ch == nil {
		s.fail(w, http.StatusServiceUnavailable, &Error{Internal, fmt.Sprintf("%d clients follow already, or the launcher is stopping: try again", maxFollowers)})
		return
	}
	defer s.hub.leave(ch)
	w.Header().Set("Content-Type", "application/jsonl")
	out := http.NewResponseController(w)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	line := []byte(nil) // the first flush sends the header alone
	for {
		if out.SetWriteDeadline(time.Now().Add(slow)) != nil {
			return
		}
		if _, err := w.Write(line); err != nil || out.Flush() != nil {
			return
		}
		select {
		case ev, open := <-ch:
			if !open {
				return
			}
			line = marshal(ev)
		case <-beat.C:
			line = []byte("\n")
		case <-r.Context().Done():
			return
		}
	}
}

// answer writes a value, or the error in its place.
func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	var refused *Error
	var long *http.MaxBytesError
	switch {
	case err == nil:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(marshal(v)) // a client that is gone needs no answer
	case errors.As(err, &long):
		s.fail(w, http.StatusRequestEntityTooLarge, &Error{Usage, fmt.Sprintf("the request is longer than %d bytes", maxBody)})
	case errors.As(err, &refused):
		s.fail(w, statusOf(refused.Code), refused)
	default:
		s.log.Error("control request failed", "err", err)
		s.fail(w, http.StatusInternalServerError, &Error{Internal, err.Error()})
	}
}

func statusOf(c Code) int {
	switch c {
	case Usage:
		return http.StatusBadRequest
	case NoPrivilege:
		return http.StatusForbidden
	case Internal:
		return http.StatusInternalServerError
	}
	return http.StatusConflict
}

func (s *Server) fail(w http.ResponseWriter, status int, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(marshal(failure{Error: problem{Code: e.Code, Reason: e.Code.String(), Text: e.Text}})) // as in answer
}

// failure is the body of every answer that is not 200.
type failure struct {
	Error problem `json:"error"`
}

type problem struct {
	Code   Code   `json:"code"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // every type here marshals
		panic("control: internal error: " + err.Error())
	}
	return append(b, '\n')
}
