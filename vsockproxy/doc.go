// Package vsockproxy carries TLS from inside an AWS Nitro Enclave to targets on
// the internet, one or several, through the enclave's only way out: a vsock to its
// parent instance. It also carries connections in.
//
//	enclave                    parent instance              target
//	http.Transport             Proxy                        kms.eu-west-1.amazonaws.com:443
//	  TLS                        allowlist
//	    Dialer ────vsock────────── Listen ──────TCP──────────── TLS
//
// TLS starts inside the enclave and ends at the target. The parent, which an
// enclave does not trust, forwards ciphertext: it can see how much flows and
// when, and the server name in the first TLS message; it can delay and cut; it
// cannot read, change or redirect anything unnoticed.
//
// # Inside the enclave
//
// Put a [Dialer] under anything that speaks TLS over a net.Conn:
//
//	dialer := &vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8000)}
//	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
//	resp, err := client.Get("https://kms.eu-west-1.amazonaws.com/ping")
//
// The dialer does not dial the address it is given, because an enclave cannot
// resolve names and the parent forwards to its own target; with Connect set it asks
// the parent for the address (see Routes). If the parent forwards elsewhere, the TLS
// handshake fails.
//
// Never use a Dialer for a protocol without TLS or its like: the parent would read
// and change it. An http.Client speaks plain HTTP when a URL or a redirect says
// so. The dialer refuses port 80 with [ReasonPlaintext], and cannot tell for other
// ports; a client that need not follow redirects should refuse them:
//
//	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
//
// # Servers inside the enclave
//
// [Listen] gives a net.Listener that http.Server and others take. End TLS in the
// enclave:
//
//	listener, err := vsockproxy.Listen(ctx, vsockproxy.Vsock(vsockproxy.AnyCID, 8443))
//	err = server.ServeTLS(listener, "", "") // with server.TLSConfig
//
// Over vsock, a connection's RemoteAddr is a *vsock.Addr of github.com/mdlayher/vsock.
// Its ContextID is the kernel's word on the peer: [ParentCID] for the parent. The parent
// can name the client that it forwards for in a PROXY header, which [NewProxyV2Listener]
// reads. That is a claim and no more. Give the server a ReadHeaderTimeout: the parent may
// connect as often as it likes and say nothing.
//
// # Programs that cannot be given a dialer
//
// For a library or another process that knows only TCP, a [Proxy] inside the enclave
// forwards from its loopback interface, which [ListenLoopback] brings up:
//
//	const kms = "kms.eu-west-1.amazonaws.com:443"
//	dialer := vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8000), Connect: true}
//	listener, err := vsockproxy.ListenLoopback(ctx, "127.0.0.1:443")
//	forwarder := &vsockproxy.Proxy{Route: vsockproxy.ToParent(dialer, kms), Logger: logger}
//	err = forwarder.Serve(ctx, listener)
//
// together with a line in the image's /etc/hosts, which leads the name there:
//
//	127.0.0.1 kms.eu-west-1.amazonaws.com
//
// The program then connects to https://kms.eu-west-1.amazonaws.com as anywhere, and
// TLS, which it must speak and verify itself, still runs from the program to KMS. For
// more services take 127.0.0.2 and so on. A program that honours HTTPS_PROXY needs no
// /etc/hosts: set HTTPS_PROXY=http://127.0.0.1:3128, listen there, and forward with
// ToParent(dialer, "") and a dialer without Connect to a parent's proxy with a
// Connect route, which then gets the program's own request. Nothing that comes through
// the loopback interface is looked at: without TLS, the parent reads and changes it.
//
// # On the parent
//
// Listen, and let a [Proxy] serve:
//
//	allow, err := vsockproxy.ParseAllowlist("kms.eu-west-1.amazonaws.com:443")
//	listener, err := vsockproxy.Listen(ctx, vsockproxy.Vsock(vsockproxy.AnyCID, 8000))
//	proxy := &vsockproxy.Proxy{Route: vsockproxy.To("kms.eu-west-1.amazonaws.com:443"), Allow: allow, Logger: logger}
//	err = proxy.Serve(ctx, listener)
//
// The command vsock-proxy does this as a program (go doc ./vsockproxy/cmd/vsock-proxy),
// with many routes, metrics and health.
//
// Serve lasts until ctx ends and returns nil then. The proxy carries the end of
// either direction separately (half-close), and lets no connection wait longer than
// [Proxy].IdleTimeout for a byte to move, or than one minute once one direction has
// ended. [Proxy].MaxLifetime ends connections whatever moves on them.
// TCP connections have keepalive on, so that a peer that vanishes is noticed.
//
// A connection that rests costs the proxy two file descriptors, no buffer, and less
// than 12.5 KB of its memory; [Proxy].MaxConns says how many descriptors to allow.
// While bytes move they go through buffers that connections share. A stream that
// fills those goes from socket to socket inside the kernel (splice(2)) on Linux, but
// for AF_VSOCK, which cannot. A receiver that is slow slows the sender.
//
// # Routes
//
// [Proxy].Route says how a connection's target is found. To is enough for an enclave
// that talks to KMS only.
//
//	To("host:port")   always there
//	Connect()         where the client asks to, by HTTP CONNECT
//	ServerName(443)   to the server named in the first message of TLS (SNI)
//	ToEnclave(e)      in: from TCP on the parent to an endpoint in the enclave
//	ToParent(d, a)    for a Proxy inside the enclave, as above
//
// Connect is the one for an enclave that talks to several services. Both sides say
// so, and the enclave then dials real addresses through one vsock port:
//
//	proxy := &vsockproxy.Proxy{Route: vsockproxy.Connect(), Allow: allow, Logger: logger}
//
//	dialer := &vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8000), Connect: true}
//	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
//	resp, err := client.Get("https://sts.eu-west-1.amazonaws.com/")
//
// When that fails, DialContext returns what the proxy says about it, such as
// [ReasonNotAllowed] or [ReasonResolve], instead of a connection that ends.
//
// ServerName needs nothing from the client but TLS: a Dialer without Connect will
// do. It serves one port only, and clients that name their server in the clear; all
// others are closed, and the log says why.
//
// ToEnclave makes a server in the enclave reachable. The parent listens on TCP:
//
//	listener, err := vsockproxy.Listen(ctx, vsockproxy.TCP("0.0.0.0:443"))
//	proxy := &vsockproxy.Proxy{Route: vsockproxy.ToEnclave(vsockproxy.Vsock(16, 8443)), Logger: logger}
//	err = proxy.Serve(ctx, listener)
//
// and the enclave listens on Vsock(AnyCID, 8443) and serves TLS there. To tell the
// enclave who the client is, [ToEnclaveProxyV2] puts a PROXY protocol header before
// the client's first byte, and [NewProxyV2Listener] takes it off again.
//
// Whatever the route, TLS passes through the proxy as it is. The allowlist decides,
// not the client: a client chooses among its entries.
//
// A client has [Proxy].HandshakeTimeout to say where it wants to go, and may use
// 8 KiB (CONNECT) or 32 KiB (ClientHello) for it. Where several enclaves share a proxy,
// [Proxy].MaxConnsPerCID keeps one from using up the connections of all.
//
// # Endpoints
//
// Where the two meet is an [Endpoint], written
//
//	vsock://3:8000                  AF_VSOCK, as in a Nitro enclave; Linux only
//	hybrid:///run/v.sock?port=8000  vsock behind a Unix socket
//	unix:///run/p.sock              a plain Unix socket
//	tcp://127.0.0.1:8000            TCP, for development
//
// Listening takes vsock://any:8000 for every context ID of the machine. Unix and
// hybrid paths are absolute and begin with a slash; Windows drive paths are not
// supported. TCP and Unix endpoints carry the same bytes, so that a program runs
// unchanged on a laptop. Listening on a path leaves an empty lock file beside the
// socket (see [Listen]).
//
// # Hybrid vsock
//
// Firecracker, Cloud Hypervisor and vhost-device-vsock show a guest's vsock to
// the host as a Unix socket (Firecracker, docs/vsock.md). Both directions exist:
//
//   - Host to guest. The host connects to the socket at path, writes
//     "CONNECT <port>\n", and reads "OK <host port>\n"; then the stream begins.
//     Dialing a hybrid endpoint does this, so it reaches a listener inside a real
//     guest. Listening on a hybrid endpoint stands in for the monitor and the guest
//     together: it creates the socket and answers the handshake for its one port.
//     A Dialer and a Listen with equal hybrid endpoints thus meet on any machine
//     with Unix sockets, and run the handshake that a real monitor runs.
//   - Guest to host. A guest that dials vsock port P of the host arrives at the
//     Unix socket path_P, without a handshake. A proxy for a real guest therefore
//     listens on Unix(path + "_8000"), while the guest dials Vsock(2, 8000).
//
// # What a proxy refuses
//
// The target must be on the [Allowlist]. An entry is an exact name, a pattern
// such as *.example.com, an address or a network, with a port or a range of
// ports, and may be only for enclaves with certain context IDs; [ParseAllowlist]
// says how they are written. Package allowfile reads them from the YAML of AWS's
// vsock-proxy.
//
// A name is resolved as it stands, never completed by a search list. It may not
// lead to an address that is loopback, link-local (the instance metadata service
// among them), private, unique local, shared (100.64.0.0/10), multicast,
// unspecified or otherwise reserved, in plain form, IPv4-mapped or through NAT64:
// whoever controls the DNS would choose what the parent connects to. Such
// addresses are skipped, and the address that was checked is the one dialed.
//
// IPv6 addresses of a VPC are public ones, and nothing in them says that they are
// near: a name may lead to the parent's own, or its neighbours'. Where that matters
// set [Proxy].AddressFamily to IPv4Only, or let firewall and security groups say no.
//
// A pattern lets its enclaves make the parent ask the DNS for any name below it, at
// their own rate: queries can carry data to whoever runs that domain's name servers,
// and names that all exist, as in a zone with a wildcard, push others out of the
// cache. List names where you can.
//
// With a VPC interface endpoint, the name of an AWS service resolves to private
// addresses of the VPC. List them too, with the port, one by one or as the network
// of the subnet: "10.0.3.17:443", "10.0.3.0/24:443". No network opens the metadata
// and credential services of EC2, ECS and EKS; who means them lists the address.
//
// # Rules that change
//
// An allowfile.File is loaded anew while the proxy runs:
//
//	file, err := allowfile.Open("/etc/nitro_enclaves/vsock-proxy.yaml")
//	go file.Watch(ctx, 0, logger) // and file.Reload on SIGHUP, say
//	proxy := &vsockproxy.Proxy{Route: vsockproxy.To(target), AllowFrom: file.Allowlist, Logger: logger}
//
// Each connection is judged once, when it begins, by the rules of that moment; open
// connections go on. A file with a mistake changes nothing, and the log and File.Err say
// what is wrong with it. Replace the file by renaming a complete one over it.
//
// # Names and addresses
//
// A Proxy without a Resolver remembers what names lead to for half a minute, and asks
// anew in the background while a name is used. While the DNS fails, it uses old answers
// for up to an hour, and says so in the log. A Resolver of your own is asked for each
// connection. A name that cannot be resolved fails the connections that need it and
// nothing else.
//
// The usable addresses of a name, eight at most, are dialed with IPv6 and IPv4 in
// turn, the next one when an address has failed or not answered for 250
// milliseconds, and the first to answer is taken (Happy Eyeballs, RFC 8305).
// [Proxy].AddressFamily says which family begins, or leaves one out.
//
// # When it does not work
//
// Every error is an [Error], whose Reason is stable and whose text says what to
// do. On the enclave's side, [ReasonRefused] without Remote means that no proxy listens
// on that port. A connection that is closed before the TLS handshake means that the
// proxy did not reach its target: its log says why, one line per connection. With
// Dialer.Connect there is an error with Remote set instead, whose Reason is the proxy's.
//
// In the proxy's log, "end" is the Reason if a connection went nowhere:
//
//	not-allowed              the allowlist does not have the target
//	resolve-failed           the target's name cannot be resolved
//	forbidden-address        its name leads to an address that is not public
//	refused, unreachable     nothing answers there, or there is no way there
//	timeout                  not in time; "error" says whether client or target
//	canceled                 the proxy was ending
//	invalid-connect          the client sent no proper CONNECT request
//	invalid-client-hello     the client did not begin with TLS
//	no-server-name           the client's TLS names no server
//	invalid-server-name      or names it as TLS does not allow
//	encrypted-client-hello   or encrypts the name (ECH)
//	connection-limit         MaxConnsPerCID
//
// and otherwise "closed", "idle", "lifetime", "broken", "shutdown" (open after the
// drain timeout) or "cut" (by [Proxy].Cut). A client's reset counts as "closed" after
// bytes went both ways and the target has ended its stream, all of which was written to
// the client: many a TLS client leaves so.
//
// Unix sockets and vsock cannot tell a cut connection from an orderly end, nor
// can Linux's AF_VSOCK always report a reset. TLS says how a stream ends; but Go's
// crypto/tls reports only a cut inside a record, with io.ErrUnexpectedEOF, and takes a
// cut between two records for the end (io.EOF). A parent can cut where it likes. So
// speak protocols that say where their messages end: HTTP does, and net/http reports
// io.ErrUnexpectedEOF, unless an answer has neither a Content-Length nor chunks.
package vsockproxy
