package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// defaultRules is where AWS's program looks for its allowlist.
const defaultRules = "/etc/nitro_enclaves/vsock-proxy.yaml"

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// joinedWorkers is -w with its number in the same argument, which AWS's program
// takes and package flag does not.
var joinedWorkers = regexp.MustCompile(`^-w=?([0-9]+)$`)

func flagSet(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return set
}

// parseArgs parses flags that stand before, between and behind the other
// arguments, which it returns.
func parseArgs(set *flag.FlagSet, args []string) ([]string, error) {
	var others []string
	for {
		if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usagef("%s", twoDashes(err))
		}
		rest := set.Args()
		ended := len(rest) < len(args) && args[len(args)-len(rest)-1] == "--"
		if ended || len(rest) == 0 {
			return append(others, rest...), nil
		}
		others, args = append(others, rest[0]), rest[1:]
	}
}

// singleDash finds the flag in what package flag says of a mistake, which gives every
// name one dash.
var singleDash = regexp.MustCompile(`^(flag provided but not defined: |flag needs an argument: |invalid (?:boolean )?value "(?:[^"\\]|\\.)*" for (?:flag )?)-(\w[\w-])`)

// twoDashes writes long flags as the manual and AWS's program do.
func twoDashes(err error) string { return singleDash.ReplaceAllString(err.Error(), "$1--$2") }

// word is a flag whose value must not be empty: an unset variable of a shell
// script is no choice.
func word(set *flag.FlagSet, name string, take func(string) error) {
	set.Func(name, "", func(s string) error {
		if s == "" {
			return errors.New("is empty")
		}
		return take(s)
	})
}

// parseCompatible reads the command line of AWS's program into a configuration
// with one route.
func parseCompatible(args []string) (*config, error) {
	args = slices.Clone(args)
	for i, arg := range args {
		if m := joinedWorkers.FindStringSubmatch(arg); m != nil {
			args[i] = "-w=" + m[1]
		}
	}
	c := &config{}
	rules := defaultRules
	var four, six, anywhere bool
	var workers int
	var listen, metrics string
	set := flagSet("vsock-proxy")
	set.BoolVar(&four, "4", false, "")
	set.BoolVar(&four, "ipv4", false, "")
	set.BoolVar(&six, "6", false, "")
	set.BoolVar(&six, "ipv6", false, "")
	for _, name := range []string{"w", "num_workers"} {
		word(set, name, func(s string) (err error) {
			if workers, err = strconv.Atoi(s); err != nil || workers < 1 || workers > most {
				return fmt.Errorf("must be a number from 1 to %d", most)
			}
			return nil
		})
	}
	word(set, "config", func(s string) error { rules = s; return nil })
	word(set, "listen", func(s string) error { listen = s; return nil })
	word(set, "metrics", func(s string) error { metrics = s; return nil })
	set.BoolVar(&anywhere, "unsafe-metrics-on-any-address", false, "")
	word(set, "drain-timeout", func(s string) (err error) {
		if c.drainTimeout, err = time.ParseDuration(s); err != nil || c.drainTimeout <= 0 {
			return errors.New("must be a time such as 30s, more than zero")
		}
		return nil
	})
	word(set, "log-level", func(s string) error {
		i := slices.Index(logLevels, s)
		if i < 0 {
			return fmt.Errorf("must be one of %s", strings.Join(logLevels, ", "))
		}
		c.logLevel = levels[i]
		return nil
	})
	word(set, "log-format", func(s string) error {
		if s != "text" && s != "json" {
			return errors.New("must be text or json")
		}
		c.logJSON = s == "json"
		return nil
	})
	others, err := parseArgs(set, args)
	if err != nil {
		return nil, err
	}
	if four && six {
		return nil, usagef("-4 and -6 exclude each other; without either, both families are used")
	}
	if len(others) < 3 {
		return nil, usagef("%s in place of the three LOCAL_PORT REMOTE_ADDR REMOTE_PORT; for many routes in one process: vsock-proxy serve --config FILE", count(len(others), "argument"))
	}
	if len(others) > 3 {
		return nil, usagef("unexpected argument %+q; one process has one remote here, and several with: vsock-proxy serve --config FILE", others[3])
	}
	r := &route{}
	localPort, err := strconv.ParseUint(others[0], 10, 32)
	if err != nil || localPort == 0 || localPort == 1<<32-1 {
		return nil, usagef("LOCAL_PORT %+q is not a vsock port, a number from 1 to %d", others[0], uint32(1<<32-2))
	}
	r.listen = vsockproxy.Vsock(vsockproxy.AnyCID, uint32(localPort))
	if remotePort, err := strconv.ParseUint(others[2], 10, 16); err != nil || remotePort == 0 {
		return nil, usagef("REMOTE_PORT %+q is not a port, a number from 1 to 65535", others[2])
	}
	switch listen {
	case "":
	case fromSystemd:
		r.listen = vsockproxy.Endpoint{}
	default:
		if r.listen, err = vsockproxy.ParseEndpoint(listen); err != nil {
			return nil, usagef("--listen: %s", plain(err))
		}
	}
	if metrics != "" {
		if c.metrics, err = metricsEndpoint(metrics, anywhere); err != nil {
			return nil, usagef("--metrics: %s", strings.ReplaceAll(err.Error(), "unsafe_metrics_on_any_address", "--unsafe-metrics-on-any-address"))
		}
	} else if anywhere {
		return nil, usagef("--unsafe-metrics-on-any-address is set, and --metrics is not")
	}
	r.name = net.JoinHostPort(strings.Trim(others[1], "[]"), others[2])
	r.words = "to " + r.name
	r.proxy = vsockproxy.Proxy{Route: vsockproxy.To(r.name), MaxConns: workers, DrainTimeout: c.drainTimeout}
	switch {
	case four:
		r.proxy.AddressFamily = vsockproxy.IPv4Only
	case six:
		r.proxy.AddressFamily = vsockproxy.IPv6Only
	}
	c.routes = []*route{r}
	file, err := c.ruleFile(rules)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s (write it, or name another with --config: it says what may be reached, such as \"allowlist: [{address: %s, port: %s}]\")", plain(err), others[1], others[2])
	}
	if err != nil && isConfiguration(rules) {
		return nil, fmt.Errorf("%s has routes, so it is a configuration and not the rules that --config names here: vsock-proxy serve --config %s", rules, rules)
	}
	if err != nil {
		return nil, errors.New(plain(err))
	}
	r.use(file)
	if err := r.proxy.Check(); err != nil {
		text := inWords(err, map[string]string{"Proxy.Route": "", "Proxy.AddressFamily": "-4 and -6"})
		return nil, fmt.Errorf("%s (the allowlist is %s)", text, rules)
	}
	return c, nil
}

// isConfiguration tells a configuration for serve from a file of rules. It looks at
// nothing but a file, because reading from a pipe could wait for ever.
func isConfiguration(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	content, err := readFile(path)
	if err != nil {
		return false
	}
	d, err := parseDocument(path, content)
	return err == nil && hasKey(d.root, "routes")
}

// logger makes the log of a process.
func (c *config) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logJSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
