package boot

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// firstProcess is set for the child of the next test, to the directory that it takes
// for the root of its file system.
const firstProcess = "KEYVOUCH_TEST_FIRST_PROCESS"

// A process with its own PID, mount and network namespaces is what the first process
// of an enclave is: number 1, with nothing mounted, and lo down.
func TestRunAsFirstProcess(t *testing.T) {
	if root := os.Getenv(firstProcess); root != "" {
		asFirstProcess(t, root)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount and to add to the kernel's randomness")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(exe, "-test.run=^TestRunAsFirstProcess$", "-test.v")
	cmd.Env = append(os.Environ(), firstProcess+"="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		// Go makes what is mounted private in it; nothing comes back here.
		Unshareflags: syscall.CLONE_NEWNS,
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("this system lets the test have no namespaces (run as root, outside a container): %v", err)
	}
	err = cmd.Wait()
	if bytes.Contains(out.Bytes(), []byte("--- SKIP: TestRunAsFirstProcess")) {
		t.Skip(out.String())
	}
	if err != nil || !bytes.Contains(out.Bytes(), []byte("--- PASS: TestRunAsFirstProcess")) {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func asFirstProcess(t *testing.T, root string) {
	if os.Getpid() != 1 {
		t.Fatalf("this is process %d", os.Getpid())
	}
	// The stand-in for nitro-cli counts heartbeats.
	parent := vsockproxy.Unix(filepath.Join(root, "parent.sock"))
	l, err := vsockproxy.Listen(t.Context(), parent)
	if err != nil {
		t.Fatal(err)
	}
	var beats atomic.Int64
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n, _ := io.Copy(conn, io.LimitReader(conn, 1)); n == 1 {
				beats.Add(1)
			}
			_ = conn.Close()
		}
	})
	defer serving.Wait()
	defer func() { _ = l.Close() }()

	if err := mountBelow(root); errors.Is(err, fs.ErrPermission) {
		t.Skipf("root may not mount here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	wantMounted(t, root, mounts)
	// Run must not find a clock of the real machine, and set it. It has to leave alone
	// what it finds mounted.
	sys := filepath.Join(root, "sys")
	if err := errors.Join(unix.Unmount(sys, 0), unix.Mount("empty", sys, "tmpfs", unix.MS_NOSUID, "")); err != nil {
		t.Fatal(err)
	}

	var log bytes.Buffer
	options := Options{Session: softwareNSM(t), Heartbeat: parent, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 2 { // the second time there is nothing to do
		err := run(t.Context(), options, os.Getpid() == 1, root)
		if errors.Is(err, fs.ErrPermission) {
			t.Skipf("root may not do everything here: %v", err)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
	}
	if n := beats.Load(); n != 1 {
		t.Errorf("%d heartbeats, want 1", n)
	}

	after := slices.Clone(mounts)
	after[2].kind = "tmpfs" // on /sys
	wantMounted(t, root, after)
	if to, err := os.Readlink(filepath.Join(root, "dev/stdout")); err != nil || to != "/proc/self/fd/1" {
		t.Errorf("/dev/stdout leads to %q, %v", to, err)
	}
	if info, err := os.Stat(filepath.Join(root, "tmp")); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("/tmp is %v, %v", info.Mode(), err)
	}
	if lo, err := net.InterfaceByName("lo"); err != nil || lo.Flags&net.FlagUp == 0 {
		t.Errorf("the interface lo is %+v, %v", lo, err)
	}
	for _, step := range []Reason{ReasonMount, ReasonModules, ReasonLoopback, ReasonEntropy, ReasonClock, ReasonHeartbeat} {
		if n := strings.Count(log.String(), "boot step done\" step="+string(step)); n != 2 {
			t.Errorf("step %s is in the log %d times, want 2:\n%s", step, n, log.String())
		}
	}

	// Nobody waits for the heartbeat of the next enclave.
	heartbeatSent.Store(false)
	_ = l.Close()
	err = run(t.Context(), options, true, root)
	wantStep(t, err, ReasonHeartbeat)
	var refused *vsockproxy.Error
	if !errors.As(err, &refused) || refused.Reason != vsockproxy.ReasonUnreachable {
		t.Errorf("%v", err)
	}
}

// wantMounted checks that each is mounted once.
func wantMounted(t *testing.T, root string, mounts []mount) {
	t.Helper()
	mounted, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		var found []string
		for line := range strings.Lines(string(mounted)) {
			if fields := strings.Fields(line); fields[4] == root+m.target {
				found = append(found, line)
			}
		}
		if len(found) != 1 || !strings.Contains(found[0], " - "+m.kind+" ") || !strings.Contains(found[0], "nosuid,") {
			t.Errorf("on %s: %q, want one %s", m.target, found, m.kind)
		}
	}
}

func TestMountErrors(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "dev"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := mountBelow(root)
	wantStep(t, err, ReasonMount)
	if !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("%v is not %v", err, syscall.ENOTDIR)
	}
	err = mountBelow(filepath.Join(root, "nowhere"))
	wantStep(t, err, ReasonMount)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not %v", err, fs.ErrNotExist)
	}
}

func TestLoadModulesErrors(t *testing.T) {
	if err := LoadModules(); err != nil {
		t.Error(err)
	}
	missing := filepath.Join(t.TempDir(), "nsm.ko")
	err := LoadModules(missing)
	if e := wantStep(t, err, ReasonModules); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Error(), missing) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(missing, bytes.Repeat([]byte("no module "), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	err = LoadModules(missing)
	e := wantStep(t, err, ReasonModules)
	if !errors.Is(err, fs.ErrPermission) && !(errors.Is(err, unix.ENOEXEC) && strings.Contains(e.Detail, "compressed")) && !errors.Is(err, unix.ENOSYS) {
		t.Errorf("%v", err)
	}
}

// clocks makes a sysfs with clocks of these names, and devices for them.
func clocks(t *testing.T, names ...string) (root string) {
	t.Helper()
	root = t.TempDir()
	for i, name := range names {
		ptp := "ptp" + string(rune('0'+i))
		dir := filepath.Join(root, "sys/class/ptp", ptp)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "clock_name"), []byte(name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "dev", ptp), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestOpenClock(t *testing.T) {
	for _, test := range []struct {
		clocks []string
		want   string // empty: there is none
		says   string
	}{
		{nil, "", "CONFIG_PTP_1588_CLOCK_KVM"},
		{[]string{"ena-ptp-05", "virtio"}, "", `and not ["ena-ptp-05" "virtio"]`},
		{[]string{kvmClock}, "dev/ptp0", ""},
		{[]string{"ena-ptp-05", kvmClock}, "dev/ptp1", ""},
	} {
		root := clocks(t, test.clocks...)
		f, err := openClock(root)
		if test.want != "" {
			if err != nil {
				t.Errorf("%q: %v", test.clocks, err)
				continue
			}
			if f.Name() != filepath.Join(root, test.want) {
				t.Errorf("%q: opened %s", test.clocks, f.Name())
			}
			_ = f.Close()
			continue
		}
		if e := wantStep(t, err, ReasonNoClock); !errors.Is(err, ReasonNoClock) || !strings.Contains(e.Detail, test.says) {
			t.Errorf("%q: %v", test.clocks, err)
		}
	}

	root := clocks(t, kvmClock)
	if err := os.RemoveAll(filepath.Join(root, "dev")); err != nil {
		t.Fatal(err)
	}
	_, err := openClock(root)
	if e := wantStep(t, err, ReasonClock); errors.Is(err, ReasonNoClock) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(e.Detail, "devtmpfs") {
		t.Errorf("%v", err)
	}
	// An ordinary file is no clock, and nothing is set.
	if _, err := setClock(clocks(t, kvmClock)); !errors.Is(wantStep(t, err, ReasonClock), syscall.EINVAL) {
		t.Errorf("%v is not %v", err, syscall.EINVAL)
	}
}

// Where the machine runs on KVM and says so, its clock can be read. It is not set:
// this is somebody's machine.
func TestReadClock(t *testing.T) {
	now, err := readClock("/")
	if errors.Is(err, ReasonNoClock) || errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the hypervisor says %v", time.Unix(now.Unix()).UTC())
}
