//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// legNames are what proxies listen on and connect to.
var legNames = []string{legTCP, legUnix}

const (
	legTCP  = "tcp-tcp"
	legUnix = "unix-tcp"
)

// proxy is a program and how it is set up.
type proxy struct {
	name string
	// slow ones get less to do.
	slow bool
	// command writes what configuration it needs into dir.
	command func(t toolbox, dir string, at address, target string) ([]string, error)
	// version is the command that prints it.
	version func(t toolbox) ([]string, error)
}

func (p proxy) String() string { return p.name }

const oursName = "ours"

var peerProxies = []proxy{
	{name: "haproxy", command: haproxy("", ""), version: program("haproxy", "-v")},
	{name: "haproxy-splice", command: haproxy("", "option splice-auto"), version: program("haproxy", "-v")},
	{name: "nginx", command: nginx(""), version: program("nginx", "-v")},
	{name: "socat", slow: true, command: socat(",backlog=3000"), version: program("socat", "-V")},
	{name: "haproxy-256k", command: haproxy("tune.bufsize 262144", ""), version: program("haproxy", "-v")},
	{name: "socat-short-queue", slow: true, command: socat(""), version: program("socat", "-V")},
	{name: "nginx-256k", command: nginx("proxy_buffer_size 256k;"), version: program("nginx", "-v")},
}

// defaultPeers is how many of peerProxies are measured unless told otherwise.
const defaultPeers = 4

func program(name, arg string) func(toolbox) ([]string, error) {
	return func(t toolbox) ([]string, error) {
		path, err := t.find(name)
		return []string{path, arg}, err
	}
}

// address is where a proxy listens.
type address struct{ network, where string }

func (a address) endpoint() string { return a.network + "://" + a.where }

// newAddress is one that nothing listens on yet.
func newAddress(leg, dir string) (address, error) {
	if leg == legUnix {
		return address{"unix", filepath.Join(dir, "socket")}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return address{}, err
	}
	defer func() { _ = l.Close() }()
	return address{"tcp", l.Addr().String()}, nil
}

func ourProxy(command string) (proxy, error) {
	var words []string
	if command == "" {
		self, err := os.Executable()
		if err != nil {
			return proxy{}, err
		}
		words = []string{self, "serve", "{listen}", "{target}"}
	} else {
		words = strings.Fields(command)
		if !strings.Contains(command, "{listen}") || !strings.Contains(command, "{target}") && !strings.Contains(command, "{port}") {
			return proxy{}, fmt.Errorf("-ours %q says nowhere {listen}, or neither {target} nor {port}", command)
		}
	}
	return proxy{
		name: oursName,
		command: func(_ toolbox, _ string, at address, target string) ([]string, error) {
			host, port, err := net.SplitHostPort(target)
			if err != nil {
				return nil, err
			}
			fill := strings.NewReplacer("{listen}", at.endpoint(), "{target}", target, "{host}", host, "{port}", port)
			var filled []string
			for _, w := range words {
				filled = append(filled, fill.Replace(w))
			}
			return filled, nil
		},
	}, nil
}

func haproxy(global, option string) func(toolbox, string, address, string) ([]string, error) {
	return func(t toolbox, dir string, at address, target string) ([]string, error) {
		path, err := t.find("haproxy")
		if err != nil {
			return nil, err
		}
		bind := at.where
		if at.network == "unix" {
			bind = "unix@" + at.where
		}
		config := filepath.Join(dir, "haproxy.cfg")
		return []string{path, "-db", "-f", config}, os.WriteFile(config, fmt.Appendf(nil, `global
	maxconn 3000
	%s
defaults
	mode tcp
	maxconn 3000
	backlog 3000
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	%s
listen proxy
	bind %s
	server origin %s
`, global, option, bind, target), 0o600)
	}
}

func nginx(option string) func(toolbox, string, address, string) ([]string, error) {
	return func(t toolbox, dir string, at address, target string) ([]string, error) {
		path, err := t.find("nginx")
		if err != nil {
			return nil, err
		}
		module, err := t.findFile("usr/lib/nginx/modules/ngx_stream_module.so")
		if err != nil {
			return nil, err
		}
		listen := at.where
		if at.network == "unix" {
			listen = "unix:" + at.where
		}
		// Root's workers would be another user's otherwise, which measures the
		// same, but that user may not be there if the package is only unpacked.
		user := ""
		if os.Geteuid() == 0 {
			user = "user root root;"
		}
		config := filepath.Join(dir, "nginx.conf")
		return []string{path, "-e", "stderr", "-p", dir, "-c", config}, os.WriteFile(config, fmt.Appendf(nil, `load_module %s;
%s
daemon off;
worker_processes auto;
worker_rlimit_nofile 8000;
error_log stderr;
pid nginx.pid;
events {
	worker_connections 6000;
}
stream {
	server {
		listen %s backlog=3000;
		proxy_pass %s;
		proxy_timeout 1h;
		%s
	}
}
`, module, user, listen, target, option), 0o600)
	}
}

func socat(options string) func(toolbox, string, address, string) ([]string, error) {
	return func(t toolbox, _ string, at address, target string) ([]string, error) {
		path, err := t.find("socat")
		if err != nil {
			return nil, err
		}
		listen := "UNIX-LISTEN:" + at.where + ",fork" + options
		if at.network == "tcp" {
			host, port, err := net.SplitHostPort(at.where)
			if err != nil {
				return nil, err
			}
			listen = "TCP-LISTEN:" + port + ",bind=" + host + ",reuseaddr,fork" + options
		}
		return []string{path, listen, "TCP:" + target}, nil
	}
}

// toolbox finds the programs of others: installed, or unpacked below root.
type toolbox struct{ root string }

func newToolbox(root string) toolbox { return toolbox{root} }

func (t toolbox) find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"usr/sbin", "usr/bin"} {
		if path, err := t.findFile(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is neither installed nor unpacked; start the bench by its script run, or leave it out by -peers", name)
}

func (t toolbox) findFile(name string) (string, error) {
	roots := []string{"/"}
	if t.root != "" {
		roots = append(roots, t.root)
	}
	for _, root := range roots {
		path := filepath.Join(root, name)
		if _, err := os.Stat(path); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", fmt.Errorf("%s is neither installed nor unpacked; start the bench by its script run", name)
}

// environment lets unpacked programs find unpacked libraries.
func (t toolbox) environment() []string {
	env := os.Environ()
	if t.root != "" {
		libraries, _ := filepath.Glob(filepath.Join(t.root, "usr/lib/*-linux-gnu*")) // fails for a bad pattern only
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	return env
}

// versions asks the programs for theirs.
func versions(ctx context.Context, proxies []proxy, t toolbox) (map[string]string, error) {
	found := map[string]string{}
	for _, p := range proxies {
		if p.version == nil {
			continue
		}
		words, err := p.version(t)
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Env = t.environment()
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", strings.Join(words, " "), err), errors.New(string(out)))
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "version") {
				found[p.name] = strings.TrimSpace(line)
				break
			}
		}
	}
	return found, nil
}
