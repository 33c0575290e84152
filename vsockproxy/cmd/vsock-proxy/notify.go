package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier tells systemd how the service does: sd_notify(3). A nil notifier, where
// nobody wants to know, is silent.
type notifier struct {
	conn   net.Conn
	ticker *time.Ticker // of the watchdog; nil if there is none
}

// newNotifier reads and unsets what systemd has put into the environment.
func newNotifier(getenv func(string) string, unsetenv func(string) error) (*notifier, error) {
	address := getenv("NOTIFY_SOCKET")
	interval, pid := getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = unsetenv(name)
	}
	if address == "" {
		return nil, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET %q is neither a path nor an abstract socket", address)
	}
	conn, err := net.Dial("unixgram", address)
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	n := &notifier{conn: conn}
	if interval != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		micros, err := strconv.ParseInt(interval, 10, 64)
		if err != nil || micros < 2 || micros > int64(time.Duration(1<<63-1)/time.Microsecond) {
			return n, fmt.Errorf("WATCHDOG_USEC %q is not a time in microseconds", interval)
		}
		// Half of it, as sd_watchdog_enabled(3) recommends.
		n.ticker = time.NewTicker(time.Duration(micros) * time.Microsecond / 2)
	}
	return n, nil
}

// watchdog ticks when the watchdog wants to hear.
func (n *notifier) watchdog() <-chan time.Time {
	if n == nil || n.ticker == nil {
		return nil
	}
	return n.ticker.C
}

// send sends assignments in one message. What is lost is lost: systemd has the
// time-outs that notice.
func (n *notifier) send(assignments ...string) {
	if n == nil {
		return
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = n.conn.Write([]byte(strings.Join(assignments, "\n")))
}
