package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// maxScrapers bounds the connections to the metrics, whose descriptors the proxy
// has use for.
const maxScrapers = 16

// serveMetrics serves metrics and health, if that is wanted, until stop is called.
func (s *service) serveMetrics(ctx context.Context) (stop func(), err error) {
	if s.metrics.IsZero() {
		return func() {}, nil
	}
	l, err := vsockproxy.Listen(ctx, s.metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics: %s", withAdvice(err))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", s.answerMetrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.answerReady)
	server := &http.Server{
		Handler:        mux,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(netutil.LimitListener(l, maxScrapers)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("metrics are no longer served", "error", err)
		}
	}()
	s.log.Info("metrics", "address", l.Addr().Network()+" "+l.Addr().String())
	return func() {
		_ = server.Close()
		<-served
	}, nil
}

// answerReady says whether connections are taken. A file of rules with a mistake
// does not change that, since its old rules are in force, and is told all the same.
func (s *service) answerReady(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	code := http.StatusOK
	switch {
	case s.draining.Load():
		code = http.StatusServiceUnavailable
		text.WriteString("ending: no new connections\n")
	case !s.ready.Load():
		code = http.StatusServiceUnavailable
		text.WriteString("starting\n")
	default:
		text.WriteString("ready\n")
	}
	for _, f := range s.files {
		if err := f.Err(); err != nil {
			fmt.Fprintf(&text, "the old rules of %s stay in force: %s\n", f.path, plain(err))
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(text.Bytes())
}

func (s *service) answerMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(s.exposition())
}

// exposition is everything in Prometheus' text format 0.0.4 (Prometheus,
// "Exposition formats").
func (s *service) exposition() []byte {
	var e exposition
	e.family("vsockproxy_build_info", "gauge", "Of the program; always 1.")
	e.sample(1, "version", version(), "goversion", runtime.Version())
	e.family("vsockproxy_start_time_seconds", "gauge", "When the process began, in Unix time.")
	e.sample(seconds(s.began))
	e.family("vsockproxy_ready", "gauge", "1 while new connections are taken.")
	e.sample(oneIf(s.ready.Load() && !s.draining.Load()))

	e.family("vsockproxy_connections_open", "gauge", "Connections that were accepted and have not ended.")
	for _, r := range s.routes {
		e.sample(float64(s.counts[r].open()), "route", r.name)
	}
	e.family("vsockproxy_connections_limit", "gauge", "Connections that a listener of the route may have open.")
	for _, r := range s.routes {
		e.sample(float64(r.maxConns()), "route", r.name)
	}
	e.family("vsockproxy_connections_total", "counter", "Connections that have ended, by why.")
	for _, r := range s.routes {
		ends, _, _ := s.counts[r].endings()
		for _, end := range slices.Sorted(maps.Keys(ends)) {
			e.sample(float64(ends[end]), "route", r.name, "end", end)
		}
	}
	e.family("vsockproxy_bytes_total", "counter", "Bytes carried by connections that have ended.")
	for _, r := range s.routes {
		_, from, to := s.counts[r].endings()
		e.sample(float64(from), "route", r.name, "direction", "from_enclave")
		e.sample(float64(to), "route", r.name, "direction", "to_enclave")
	}
	e.family("vsockproxy_accept_failures_total", "counter", "Connections that could not be accepted, for want of descriptors for instance.")
	for _, r := range s.routes {
		e.sample(float64(s.counts[r].failed.Load()), "route", r.name)
	}

	if len(s.files) > 0 {
		e.family("vsockproxy_rules_entries", "gauge", "Entries in force of a file of rules.")
		for _, f := range s.files {
			e.sample(float64(len(f.Allowlist().Entries())), "path", f.path)
		}
		e.family("vsockproxy_rules_stale", "gauge", "1 if a file of rules has a mistake, so that its old rules are in force.")
		for _, f := range s.files {
			e.sample(oneIf(f.Err() != nil), "path", f.path)
		}
		e.family("vsockproxy_rules_loads_total", "counter", "Loads of a file of rules.")
		for _, f := range s.files {
			stats := f.Stats()
			e.sample(float64(stats.Loaded), "path", f.path, "result", "loaded")
			e.sample(float64(stats.Failed), "path", f.path, "result", "failed")
		}
		e.family("vsockproxy_rules_loaded_time_seconds", "gauge", "When the rules in force were loaded, in Unix time.")
		for _, f := range s.files {
			e.sample(seconds(f.Stats().Last), "path", f.path)
		}
	}

	// The names that Prometheus' own libraries use.
	if open, ok := openDescriptors(); ok {
		e.family("process_open_fds", "gauge", "Descriptors of the process.")
		e.sample(float64(open))
	}
	if limit, ok := descriptorLimit(); ok {
		e.family("process_max_fds", "gauge", "Descriptors that the process may have.")
		e.sample(float64(limit))
	}
	e.family("go_goroutines", "gauge", "Goroutines of the process.")
	e.sample(float64(runtime.NumGoroutine()))
	return e.Bytes()
}

// exposition writes families of metrics and their samples.
type exposition struct {
	bytes.Buffer
	name string
}

func (e *exposition) family(name, kind, help string) {
	e.name = name
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// sample writes a sample of the family with labels, name and value in turn.
func (e *exposition) sample(value float64, labels ...string) {
	e.WriteString(e.name)
	for i := 0; i < len(labels); i += 2 {
		separator := ","
		if i == 0 {
			separator = "{"
		}
		fmt.Fprintf(e, `%s%s="%s"`, separator, labels[i], labelEscapes.Replace(labels[i+1]))
	}
	if len(labels) > 0 {
		e.WriteByte('}')
	}
	e.WriteByte(' ')
	e.WriteString(strconv.FormatFloat(value, 'g', -1, 64))
	e.WriteByte('\n')
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// version is what Go has stamped into the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
