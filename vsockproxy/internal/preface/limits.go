package preface

// MaxClientHello bounds what is read of a ClientHello, in bytes with their record headers. A client with post-quantum
// key shares sends about 2 KiB.
const MaxClientHello = 32 << 10

// MaxConnectRequest bounds the request line and header of a CONNECT request, and
// of the answer to one, in bytes.
const MaxConnectRequest = 8 << 10

// MaxProxyHeader bounds a PROXY header with its extensions, in bytes. Ours has 28
// or 52; a load balancer's may name an endpoint or a client certificate, too.
const MaxProxyHeader = 4 << 10
