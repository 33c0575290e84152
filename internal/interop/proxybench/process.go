//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a proxy that runs, and its origin: one of its own, so that one
// proxy's closed connections do not take the ports of another's new ones.
type process struct {
	proxy  proxy
	at     address
	origin *origin

	cmd   *exec.Cmd
	log   *os.File
	ended chan struct{} // closed when cmd has ended, with the error in err
	err   error

	restart func() (*process, error)
}

const (
	startTimeout = 10 * time.Second
	stopTimeout  = 10 * time.Second
)

// start starts p and waits until it forwards.
func start(ctx context.Context, p proxy, t toolbox, parent, leg string) (_ *process, err error) {
	dir, err := os.MkdirTemp(parent, p.name)
	if err != nil {
		return nil, err
	}
	run := &process{proxy: p, ended: make(chan struct{})}
	run.restart = func() (*process, error) { return start(ctx, p, t, parent, leg) }
	if run.at, err = newAddress(leg, dir); err != nil {
		return nil, err
	}
	if run.origin, err = newOrigin(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			run.origin.close()
		}
	}()
	words, err := p.command(t, dir, run.at, run.origin.address())
	if err != nil {
		return nil, err
	}
	if run.log, err = os.Create(filepath.Join(dir, "output")); err != nil {
		return nil, err
	}
	run.cmd = exec.Command(words[0], words[1:]...)
	run.cmd.Env = t.environment()
	run.cmd.Stdout, run.cmd.Stderr = run.log, run.log
	// A process group holds the proxy and what it forks, to be counted and ended
	// together. Pdeathsig is for the case that this program is killed.
	run.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := run.cmd.Start(); err != nil {
		_ = run.log.Close()
		return nil, err
	}
	go func() {
		run.err = run.cmd.Wait()
		close(run.ended)
	}()
	if err := run.ready(ctx); err != nil {
		output := run.output()
		_ = run.stop()
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, output)
	}
	return run, nil
}

// ready waits until a byte comes through.
func (p *process) ready(ctx context.Context) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := p.once()
		if err == nil {
			return p.settled()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("does not forward: %w", err)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("ended: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// once makes a connection, gets one byte over it, and closes it.
func (p *process) once() error {
	c, err := p.dial()
	if err != nil {
		return err
	}
	defer c.close()
	return c.exchange(headerSize, 1)
}

// settled waits until the proxy has closed its connections to the origin.
func (p *process) settled() error {
	for deadline := time.Now().Add(stopTimeout); p.origin.open.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("has %d connections still open that the clients have closed", p.origin.open.Load())
		}
	}
	return nil
}

// stop ends the proxy, by force if need be, and its origin.
func (p *process) stop() error {
	defer p.origin.close()
	defer func() { _ = p.log.Close() }()
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended too early: %v\n%s", p.proxy, p.err, p.output())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
	}
	// What has been forked and outlives its parent; and the parent, if it
	// outlived the timeout.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	return nil
}

// output is the end of what the proxy printed.
func (p *process) output() string {
	data, _ := os.ReadFile(p.log.Name())
	return string(data[max(0, len(data)-4096):])
}

// cpu is the time that the proxy has had so far on all cores.
func (p *process) cpu() (time.Duration, error) {
	members, err := p.members()
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, m := range members {
		total += m.reaped
		// The kernel's clock of another process (clock_getcpuclockid(3)), which
		// counts nanoseconds, also of its threads that have ended.
		var t unix.Timespec
		err := unix.ClockGettime(int32(^m.pid<<3|2), &t)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ESRCH) { // has ended meanwhile
			return 0, fmt.Errorf("CPU clock of process %d: %w", m.pid, err)
		}
		total += time.Duration(t.Nano())
	}
	return total, nil
}

// holdings is what a proxy holds, all its processes together.
type holdings struct {
	rss, pss    int64 // bytes
	descriptors int
}

func (p *process) holdings() (holdings, error) {
	members, err := p.members()
	if err != nil {
		return holdings{}, err
	}
	var h holdings
	for _, m := range members {
		dir := filepath.Join("/proc", strconv.Itoa(m.pid))
		data, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
		if err != nil {
			return holdings{}, err
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if len(fields) != 3 || fields[2] != "kB" {
				continue
			}
			kibibytes, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return holdings{}, fmt.Errorf("smaps_rollup: %w", err)
			}
			switch fields[0] {
			case "Rss:":
				h.rss += kibibytes << 10
			case "Pss:":
				h.pss += kibibytes << 10
			}
		}
		open, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			return holdings{}, err
		}
		h.descriptors += len(open)
	}
	return h, nil
}

// member is one process of a proxy.
type member struct {
	pid    int
	reaped time.Duration // CPU time of its children that have ended
}

// members finds the proxy's processes by their group.
func (p *process) members() ([]member, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []member
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // has ended meanwhile
		}
		m, group, err := parseStat(pid, stat)
		if err != nil {
			return nil, err
		}
		if group == p.cmd.Process.Pid {
			found = append(found, m)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("has ended")
	}
	return found, nil
}

// parseStat reads /proc/PID/stat (proc_pid_stat(5)).
func parseStat(pid int, stat []byte) (m member, group int, err error) {
	// The name of the program, in parentheses, may hold anything.
	_, rest, _ := bytes.Cut(stat, []byte("("))
	if i := bytes.LastIndexByte(rest, ')'); i >= 0 {
		rest = rest[i+1:]
	}
	fields := strings.Fields(string(rest)) // from the third, state, on
	number := func(nth int) int64 {
		if err != nil || len(fields) <= nth-3 {
			err = fmt.Errorf("cannot read /proc/%d/stat: %q", pid, stat)
			return 0
		}
		var n int64
		n, err = strconv.ParseInt(fields[nth-3], 10, 64)
		return n
	}
	group = int(number(5))
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go has
	return member{pid, time.Duration(number(16)+number(17)) * tick}, group, err
}
