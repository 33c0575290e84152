package allowfile_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/allowfile"
)

func ExampleRead() {
	allow, err := allowfile.Read(strings.NewReader(`
allowlist:
- {address: kms.eu-west-1.amazonaws.com, port: 443}
- {address: "*.example.com", port: 8000-8100, cids: [16, 17]}
`))
	fmt.Println(allow.Entries(), err)

	_, err = allowfile.Read(strings.NewReader(`
allowlist:
- {address: kms.eu-west-1.amazonaws.com, port: 65979}
`))
	fmt.Println(err)
	// Output:
	// [kms.eu-west-1.amazonaws.com:443 *.example.com:8000-8100 cid=16,17] <nil>
	// vsockproxy: Read: invalid-allowlist: entry 1 of the allowlist, line 3: "kms.eu-west-1.amazonaws.com:65979": port "65979" is not a decimal number between 1 and 65535
}

// Rules from a file, which is loaded anew when it changes. A program that has
// signals calls Reload on SIGHUP, too.
func ExampleFile() {
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "vsock-proxy.yaml")
	write := func(text string) {
		// Write beside the file and rename: nobody sees half of it.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			log.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			log.Fatal(err)
		}
	}

	write("allowlist: [{address: kms.eu-west-1.amazonaws.com, port: 443}]")
	file, err := allowfile.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	// go file.Watch(ctx, 0, logger)
	_ = &vsockproxy.Proxy{Route: vsockproxy.To("kms.eu-west-1.amazonaws.com:443"), AllowFrom: file.Allowlist}

	write("allowlist: [{address: \"*.com\", port: 443}]")
	fmt.Println("mistake found:", file.Reload() != nil)
	fmt.Println("in force:", file.Allowlist().Entries())

	write("allowlist: [{address: kms.eu-west-1.amazonaws.com, port: 443}, {address: sts.eu-west-1.amazonaws.com, port: 443}]")
	fmt.Println("mistake found:", file.Reload() != nil)
	fmt.Println("in force:", file.Allowlist().Entries())
	// Output:
	// mistake found: true
	// in force: [kms.eu-west-1.amazonaws.com:443]
	// mistake found: false
	// in force: [kms.eu-west-1.amazonaws.com:443 sts.eu-west-1.amazonaws.com:443]
}
