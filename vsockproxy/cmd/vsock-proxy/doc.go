// Vsock-proxy runs on the parent instance of AWS Nitro Enclaves and forwards their
// connections, and takes the place of the vsock-proxy of aws-nitro-enclaves-cli.
//
//	vsock-proxy [flags] LOCAL_PORT REMOTE_ADDR REMOTE_PORT
//	vsock-proxy serve --config FILE
//	vsock-proxy check [--config] FILE
//
// What it forwards is encrypted in the enclave; see the package vsockproxy, which
// does the work, for what is permitted, refused and logged.
//
// # In place of AWS's program
//
// The first form is the command line of AWS's program, with its flags and its file
// of rules:
//
//	vsock-proxy 8000 kms.eu-west-1.amazonaws.com 443
//
//	-4, --ipv4             use IPv4 addresses only
//	-6, --ipv6             use IPv6 addresses only
//	-w, --num_workers N    at most N connections at once; others wait
//	    --config FILE      the rules (/etc/nitro_enclaves/vsock-proxy.yaml)
//	    --version, --help
//
// Flags may stand before, between and behind the arguments. LOCAL_PORT is a vsock
// port, and it listens on every context ID of the parent. These differ:
//
//   - Without -w there may be 1024 connections, and not 4: AWS's default is a number
//     of threads, and connections need none here.
//   - A rule with a name permits that name only, and not others with an address in
//     common.
//   - A name may not lead to private addresses, unless those are listed, too (see
//     "With a VPC endpoint").
//   - The rules are loaded anew when the file changes, and on SIGHUP.
//   - "localhost" is no name here; write 127.0.0.1, and list it.
//
// Flags beyond AWS's: --listen ENDPOINT listens elsewhere, such as
// unix:///run/p.sock or tcp://127.0.0.1:8000 for development and tests, or
// hybrid:///run/v.sock?port=8000, or systemd for a passed socket, and LOCAL_PORT,
// which is required all the same, has no effect then; --metrics
// ENDPOINT, --unsafe-metrics-on-any-address, --log-level, --log-format and
// --drain-timeout are as the keys of a configuration.
//
// # With a VPC endpoint
//
// An interface endpoint for KMS with private DNS makes KMS's name lead to private
// addresses of the VPC, one in each of the endpoint's subnets. The rule for the name,
// which is all that AWS's program needs, then lets nothing through: connections have
// end=forbidden-address in the log, with the address that was refused. On the parent,
// getent ahosts kms.eu-west-1.amazonaws.com shows the addresses. List them beside the
// name, in the file of rules
//
//	allowlist:
//	- {address: kms.eu-west-1.amazonaws.com, port: 443}
//	- {address: 10.0.3.17, port: 443}   # the endpoint, in one subnet
//	- {address: 10.0.4.21, port: 443}   # and in the other
//
// or in the route of a configuration:
//
//	routes:
//	- name: kms
//	  listen: vsock://any:8000
//	  target: kms.eu-west-1.amazonaws.com:443
//	  allowlist:
//	  - kms.eu-west-1.amazonaws.com:443
//	  - 10.0.3.17:443
//	  - 10.0.4.21:443
//
// Check warns of each address that names on the list may lead there, which is meant
// here. The subnets in their place, such as 10.0.3.0/24, still hold when the endpoint is
// made anew, but open everything in them that listens on that port.
//
// # Many routes
//
// Serve does what a configuration says, in YAML:
//
//	metrics: tcp://127.0.0.1:9464
//	routes:
//	- name: kms
//	  listen: vsock://any:8000
//	  target: kms.eu-west-1.amazonaws.com:443
//	- name: services
//	  listen: vsock://any:8001
//	  connect: true
//	  allowlist:
//	  - sts.eu-west-1.amazonaws.com:443
//	  - "*.s3.eu-west-1.amazonaws.com:443 cid=16,17"
//	- name: web
//	  listen: tcp://0.0.0.0:443
//	  to_enclave: vsock://16:8443
//
// A route has a name, for logs and metrics; listen, an endpoint; and one of
//
//	target: HOST:PORT      every connection goes there
//	connect: true          where the client asks to, by HTTP CONNECT
//	server_name: PORT      to the server that the client's TLS names
//	to_enclave: ENDPOINT   in: to where the enclave listens
//
// With proxy_protocol: true, to_enclave tells the enclave the client's address (PROXY
// protocol, version 2). What the clients of the other routes may reach is in
// allowlist, a list of entries as vsockproxy.ParseAllowlist has them, or in the file
// that allowlist_file names, in the format of AWS's vsock-proxy.yaml. Its path
// begins at the configuration's folder if it is relative. A target with neither is
// its own rule.
//
// Also in a route, each optional:
//
//	address_family: any | ipv4-only | ipv6-only | prefer-ipv4 | prefer-ipv6
//	max_conns: 1024              open at once; others wait
//	max_conns_per_cid: 100       of one enclave; others are closed
//	handshake_timeout: 10s       for connect and server_name
//	dial_timeout: 10s
//	idle_timeout: 5m
//	max_lifetime: 24h            none unless given
//
// and beside routes:
//
//	log_level: debug | info | warn | error
//	log_format: text | json
//	metrics: ENDPOINT            tcp on a loopback address, or unix
//	unsafe_metrics_on_any_address: true
//	drain_timeout: 5s            for open connections, at the end
//
// An unknown key is a mistake, and every mistake is told with its line; of a file of
// rules, the first is. Check tells them without serving, and puts each route and rule
// into words, with warnings. It reads AWS's vsock-proxy.yaml, too.
//
// # While it runs
//
// The log, on the standard error, has one line per connection when it ends: peer,
// cid, route, target, bytes each way, duration, and in "end" why (see package
// vsockproxy, "When it does not work"). Never what was sent. The bytes are
// bytes_to_target and bytes_to_enclave, and with to_enclave bytes_to_client and
// bytes_to_enclave. In JSON durations are in nanoseconds.
//
// SIGHUP loads the files of rules anew; so does a change of a file, some seconds
// later. A file with a mistake changes nothing, and the log says what is wrong.
// Anything else in a configuration takes a restart.
//
// SIGTERM and SIGINT end it: no new connections, and the open ones have
// drain_timeout. A second signal cuts them at once, and their lines then have end=cut; a
// third does not wait for what is left of that.
//
// Over metrics there are, by HTTP:
//
//	/metrics   for Prometheus: connections open and ended by route and reason, bytes
//	           of ended connections, failures to accept, loads of rules, descriptors
//	/healthz   200 while the process answers
//	/readyz    200 while new connections are taken, and else 503; and which file of
//	           rules has a mistake
//
// A file with a mistake does not make it unready, since the old rules are in force:
// watch vsockproxy_rules_stale.
//
// # Under systemd
//
// It tells systemd when it is ready, loads anew, ends, and how it does
// (Type=notify), and feeds the watchdog (WatchdogSec=). A route with listen: systemd
// takes the sockets whose FileDescriptorName= is its name; AF_VSOCK is
// ListenStream=vsock::8000. The folder examples/vsock-proxy has the units.
//
// # Exit codes
//
// 0 after an orderly end; 1 if it cannot listen or something broke, or connections
// were cut by a second signal; 2 if the command line, the configuration or the rules
// are wrong, so that starting again will not help. Check: 0 without mistakes, 1 with,
// 2 if there is nothing to check.
package main
