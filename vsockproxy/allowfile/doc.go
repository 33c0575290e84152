// Package allowfile reads the allowlist of a [vsockproxy.Proxy] from a file in the YAML
// of AWS's vsock-proxy, and loads it anew while the proxy runs. It is for the parent.
// An enclave that only dials does not import it, and so links no YAML.
//
//	file, err := allowfile.Open("/etc/nitro_enclaves/vsock-proxy.yaml")
//	…
//	go file.Watch(ctx, 0, logger)
//	proxy := vsockproxy.Proxy{Route: vsockproxy.Connect(), AllowFrom: file.Allowlist}
//
// A file with a mistake never takes the place of the rules in force: [File.Reload] and
// [File.Err] say what is wrong with it. Replace the file by renaming a new one onto it,
// so that nobody reads half of it.
package allowfile
