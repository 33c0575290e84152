//go:build linux

// Proxybench measures the vsock proxy against haproxy, nginx's stream module and
// socat, which carry bytes from one socket to another as it does:
//
//	internal/interop/proxybench/run          # three or four minutes
//	internal/interop/proxybench/run -quick   # half a minute, coarser
//
// The script run finds the others, or unpacks them from Debian's packages without
// installing them; then it runs this program, with its own arguments. -help lists
// these. To measure a program of your own choice as ours:
//
//	run -ours 'some-proxy --listen {listen} --target {target}'
//
// where {listen} becomes an endpoint such as unix:///… or tcp://127.0.0.1:…, as
// vsockproxy writes them, and {target} the address 127.0.0.1:port; {host} and
// {port} are its parts. Without -ours it is a vsockproxy.Proxy that logs nothing,
// in a process of its own: this program's command serve. To see where its time
// goes, build this program and take that command with a profile:
//
//	go build -C internal/interop -o "$PWD/proxybench-program" ./proxybench
//	./proxybench-program -scale 20 -rounds 1 -legs unix-tcp -measures connect -peers '' \
//		-ours "$PWD/proxybench-program serve -cpuprofile $PWD/cpu {listen} {target}"
//
// # What is measured
//
// All goes over loopback. Clients and the origin, the server at the far end, are
// in this process, the proxies in processes of their own. There are two legs. In
// tcp-tcp proxies listen on TCP, in unix-tcp on a Unix socket, which stands for the
// vsock that the others cannot listen on; both connect to the origin by TCP.
//
// In every round, every proxy has its turn at a measure before the next measure
// begins, and the order rotates. A ratio is taken between figures of the same
// round, and the table shows the least and the median over the rounds, because the
// speed of a shared machine drifts more from minute to minute than proxies differ.
// CPU time bears other load on the machine well; times on the clock, and with them
// connections/s, MiB/s and trips, do not, and mean little while it is busy.
//
//   - bulk1 and bulk64 download from the origin over 1 and 64 connections, as many
//     bytes in total. The CPU time is that of the proxy alone, with all its threads
//     and processes, by the kernel's clock of each process (nanoseconds).
//   - connect makes connections one after the other in 16 clients at once; each
//     asks for one byte, gets it, and closes.
//   - trip1 and trip16 send 1 KiB and wait for 1 KiB, over 1 and 16 connections.
//   - idle opens connections, exchanges 1 KiB over each, and leaves them. Memory is
//     what a fresh process has grown by, divided by the connections, in KB of 1000
//     bytes: RSS, which counts pages that processes share in each of them, and PSS,
//     which does not. The kernel's memory is not in it.
//
// # How the others are set up
//
// As their packages have them, but for limits that would end the measurement:
// many connections, long timeouts, long queues of the listener. (With socat's own
// queue, of 5, clients wait a second for TCP's next attempt, and fail on a Unix
// socket.) Nothing logs. All may use every core, and do so by default: haproxy has
// a thread and nginx a worker for each, socat a process for each connection, Go a
// GOMAXPROCS. Buffers are the defaults. haproxy runs a second time with "option
// splice-auto", which moves bytes without copying them to the process. As socat is
// slow, it gets a quarter of the bytes, half of the trips, and a tenth of the idle
// connections.
//
// Three more are there for the asking: haproxy-256k and nginx-256k, whose buffers
// have that many bytes, and socat-short-queue, with its own queue, on TCP.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		err = serve(ctx, os.Args[2:])
	} else {
		err = bench(ctx, os.Args[1:])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "proxybench:", err)
		os.Exit(1)
	}
}

// size is how much a measurement moves.
type size struct {
	bulk      int64         // bytes of a download, over all its connections
	connect   time.Duration // how long new connections are made
	exchanges int           // over all connections
	idle      int           // connections
	settle    time.Duration // from the last byte until memory is read
}

var (
	fullSize  = size{bulk: 512 << 20, connect: 400 * time.Millisecond, exchanges: 4000, idle: 2000, settle: 300 * time.Millisecond}
	quickSize = size{bulk: 128 << 20, connect: 200 * time.Millisecond, exchanges: 1600, idle: 500, settle: 100 * time.Millisecond}
)

func (s size) times(n int) size {
	s.bulk *= int64(n)
	s.connect *= time.Duration(n)
	s.exchanges *= n
	return s
}

// less is for a slow proxy.
func (s size) less() size {
	s.bulk /= 4
	s.idle /= 10
	s.exchanges /= 2
	return s
}

type settings struct {
	size   size
	rounds int
	legs   []string
	// measures and proxies in the order of the first round; ours comes first.
	measures []measure
	proxies  []proxy
}

func bench(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("proxybench", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "move less, in 2 rounds")
	scale := flags.Int("scale", 1, "move so many `times` as much, but over no more connections")
	rounds := flags.Int("rounds", 0, "interleaved `rounds` (default 6)")
	asJSON := flags.Bool("json", false, "print every figure of every round as JSON")
	ours := flags.String("ours", "", "`command` of the proxy to measure, with {listen} and {target}, split at blanks (default this program's serve)")
	legs := flags.String("legs", strings.Join(legNames, ","), "`legs` to measure")
	measures := flags.String("measures", strings.Join(namesOf(allMeasures), ","), "`measures` to take")
	peers := flags.String("peers", strings.Join(namesOf(peerProxies[:defaultPeers]), ","), "`proxies` to measure against, of "+strings.Join(namesOf(peerProxies), ","))
	root := flags.String("root", "", "`folder` in which the packages of the others are unpacked, if they are not installed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; see -help", flags.Arg(0))
	}
	s := settings{size: fullSize, rounds: 6}
	if *quick {
		s.size, s.rounds = quickSize, 2
	}
	if *rounds < 0 || *scale < 1 || *scale > 100 {
		return fmt.Errorf("-rounds %d, -scale %d: rounds are not negative, and the scale is 1 to 100", *rounds, *scale)
	}
	s.size = s.size.times(*scale)
	if *rounds > 0 {
		s.rounds = *rounds
	}
	own, err := ourProxy(*ours)
	if err != nil {
		return err
	}
	s.proxies = []proxy{own}
	var chosen []proxy
	for _, list := range []struct {
		flag  string
		parse func() error
	}{
		{"-legs", func() (err error) {
			s.legs, err = pickSome(*legs, legNames, func(l string) string { return l })
			return
		}},
		{"-measures", func() (err error) { s.measures, err = pickSome(*measures, allMeasures, measure.String); return }},
		{"-peers", func() (err error) { chosen, err = pick(*peers, peerProxies, proxy.String); return }},
	} {
		if err := list.parse(); err != nil {
			return fmt.Errorf("%s: %w", list.flag, err)
		}
	}
	s.proxies = append(s.proxies, chosen...)
	if err := raiseDescriptorLimit(); err != nil {
		return err
	}
	r, err := s.run(ctx, newToolbox(*root), func(format string, args ...any) { fmt.Fprintf(os.Stderr, format, args...) })
	if err != nil {
		return err
	}
	if *asJSON {
		return r.writeJSON(os.Stdout)
	}
	return r.writeTable(os.Stdout)
}

// pick finds the named ones of all, in the order of all.
func pick[T any](list string, all []T, name func(T) string) ([]T, error) {
	wanted := map[string]bool{}
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			wanted[n] = true
		}
	}
	var found []T
	var names []string
	for _, one := range all {
		names = append(names, name(one))
		if wanted[name(one)] {
			found = append(found, one)
			delete(wanted, name(one))
		}
	}
	for n := range wanted {
		return nil, fmt.Errorf("there is no %q, only %s", n, strings.Join(names, ", "))
	}
	return found, nil
}

// pickSome is pick where none would leave nothing to do.
func pickSome[T any](list string, all []T, name func(T) string) ([]T, error) {
	found, err := pick(list, all, name)
	if err == nil && len(found) == 0 {
		err = errors.New("none is chosen")
	}
	return found, err
}

func namesOf[T fmt.Stringer](all []T) []string {
	var names []string
	for _, one := range all {
		names = append(names, one.String())
	}
	return names
}

// raiseDescriptorLimit raises the soft limit to the hard one, here and, because it
// is set explicitly, in the proxies.
func raiseDescriptorLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of descriptors: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of descriptors to %d: %w", limit.Max, err)
	}
	return nil
}

// run takes every measure of every proxy, round by round.
func (s settings) run(ctx context.Context, tools toolbox, progress func(format string, args ...any)) (*results, error) {
	dir, err := os.MkdirTemp("", "proxybench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := newResults(s)
	if r.Versions, err = versions(ctx, s.proxies, tools); err != nil {
		return nil, err
	}
	for round := range s.rounds {
		for _, leg := range s.legs {
			progress("round %d of %d, %s\n", round+1, s.rounds, leg)
			if err := s.runLeg(ctx, r, tools, dir, leg, round); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// runLeg starts all proxies, so that they take turns, and stops them.
func (s settings) runLeg(ctx context.Context, r *results, tools toolbox, dir, leg string, round int) (err error) {
	running := make([]*process, len(s.proxies))
	defer func() {
		for _, p := range running {
			if p != nil {
				err = errors.Join(err, p.stop())
			}
		}
	}()
	for i, p := range s.proxies {
		if running[i], err = start(ctx, p, tools, dir, leg); err != nil {
			return fmt.Errorf("%s, %s: %w", p, leg, err)
		}
	}
	for _, m := range s.measures {
		for k := range s.proxies {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := running[(k+round)%len(running)]
			size := s.size
			if p.proxy.slow {
				size = size.less()
			}
			values, err := m.take(p, size)
			if err == nil {
				err = p.settled()
			}
			if err != nil {
				return fmt.Errorf("%s, %s, %s: %w\n%s", p.proxy, leg, m, err, p.output())
			}
			for i, f := range m.figures {
				r.add(leg, f, p.proxy, values[i])
			}
		}
	}
	return nil
}

// middle is the median.
func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
