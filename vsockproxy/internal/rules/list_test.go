package rules

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	a := mustAllow(t,
		"KMS.eu-west-1.AmazonAWS.com.:443",
		"_service.example:8443",
		"xn--bcher-kva.example:443",
		"a:1",
		"10.0.3.17:443",
		"[2600:1f18::1]:443",
		"[::ffff:10.0.0.9]:443",
	)
	for _, s := range []string{
		"kms.eu-west-1.amazonaws.com:443",
		"kms.EU-WEST-1.amazonaws.com.:443",
		"_service.example:8443",
		"xn--bcher-kva.example:443",
		"a:1",
		"10.0.3.17:443",
		"[2600:1f18:0:0::1]:443",
		"10.0.0.9:443",
	} {
		if target, err := ParseTarget(s); err != nil || !a.Allows(target, Source{}) {
			t.Errorf("%s (%v, %v) is not allowed", s, target, err)
		}
	}
	for _, s := range []string{
		"kms.eu-west-1.amazonaws.com:80",
		"x.kms.eu-west-1.amazonaws.com:443",
		"amazonaws.com:443",
		"kms.eu-west-1.amazonaws.com.evil.example:443",
		"10.0.3.17:80",
		"10.0.3.18:443",
		"[2600:1f18::2]:443",
	} {
		if target, err := ParseTarget(s); err != nil || a.Allows(target, Source{}) {
			t.Errorf("%s (%v, %v) is allowed", s, target, err)
		}
	}
}

func TestParseAllowlistErrors(t *testing.T) {
	_, err := Parse()
	wantError(t, err, 0)
	for entry, says := range map[string]string{
		"":                                    "empty",
		"kms.amazonaws.com":                   "not host:port",
		"kms.amazonaws.com:":                  `port ""`,
		"kms.amazonaws.com:0":                 `port "0"`,
		"kms.amazonaws.com:65536":             `port "65536"`,
		"kms.amazonaws.com:https":             `port "https"`,
		"kms.amazonaws.com:0443":              `port "0443"`,
		"kms.amazonaws.com: 443":              `port ""`,
		":443":                                "the host is empty",
		".:443":                               "empty label",
		"a..b:443":                            "empty label",
		"a.b..:443":                           "empty label",
		"https://kms.amazonaws.com:443":       "not host:port",
		"kms.amazonaws.com/x:443":             "not a network",
		"bücher.example:443":                  "xn--",
		"\u212Ams.example.com:443":            "xn--", // the Kelvin sign, which folds into k
		"-a.example:443":                      "hyphen",
		"a-.example:443":                      "hyphen",
		strings.Repeat("a", 64) + ".com:443":  "64 bytes long",
		strings.Repeat("a.", 127) + "com:443": "the limit is 253",
		strings.Repeat("a", 2000) + ":443":    "2004 bytes long",
		"127.1:443":                           "neither a domain nor",
		"0x7f000001:443":                      "neither a domain nor",
		"2130706433:443":                      "neither a domain nor",
		"1.2.3.4.5:443":                       "neither a domain nor",
		"010.0.0.1:443":                       "neither a domain nor",
		"::1:443":                             "not host:port",
		"[fe80::1%eth0]:443":                  "zone",
	} {
		_, err := Parse("ok.example:443", entry)
		if err == nil {
			t.Errorf("entry %q is accepted", entry)
			continue
		}
		if e := wantError(t, err, 2); !strings.Contains(e.Detail, says) {
			t.Errorf("entry %q: %v; does not say %q", entry, err, says)
		}
	}
}

func TestAddressClasses(t *testing.T) {
	for addr, class := range map[string]string{
		"0.0.0.0":                  "unspecified",
		"0.1.2.3":                  "unspecified",
		"10.0.0.0":                 "private",
		"10.255.255.255":           "private",
		"100.64.0.1":               "shared",
		"100.127.255.255":          "shared",
		"127.0.0.1":                "loopback",
		"127.255.255.254":          "loopback",
		"169.254.169.254":          "EC2 instance metadata",
		"169.254.170.2":            "ECS task metadata and credentials",
		"169.254.170.23":           "EKS pod credentials",
		"169.254.170.3":            "link-local",
		"fd00:ec2::23":             "EKS pod credentials",
		"172.16.0.1":               "private",
		"172.31.255.255":           "private",
		"192.0.0.8":                "reserved",
		"192.0.2.1":                "documentation",
		"192.88.99.1":              "6to4",
		"192.168.1.1":              "private",
		"198.19.0.1":               "benchmarking",
		"198.51.100.1":             "documentation",
		"203.0.113.1":              "documentation",
		"224.0.0.1":                "multicast",
		"239.255.255.255":          "multicast",
		"240.0.0.1":                "reserved or broadcast",
		"255.255.255.255":          "reserved or broadcast",
		"::":                       "unspecified",
		"::1":                      "loopback",
		"::7f00:1":                 "not a global unicast",
		"::ffff:127.0.0.1":         "loopback",
		"::ffff:169.254.169.254":   "EC2 instance metadata",
		"::ffff:10.0.0.1":          "private",
		"64:ff9b::7f00:1":          "NAT64 (RFC 6052) of an address that is loopback",
		"64:ff9b::169.254.169.254": "NAT64 (RFC 6052) of an address that is EC2 instance metadata",
		"64:ff9b::10.0.0.1":        "NAT64 (RFC 6052) of an address that is private",
		"64:ff9b:1::a00:1":         "local NAT64",
		"100::1":                   "not a global unicast",
		"2001::1":                  "reserved",
		"2001:db8::1":              "documentation",
		"2002:7f00:1::":            "6to4",
		"3fff::1":                  "documentation",
		"4000::1":                  "not a global unicast",
		"fc00::1":                  "unique local",
		"fd00:ec2::254":            "EC2 instance metadata",
		"fd00:ec2::253":            "unique local",
		"fe80::1":                  "link-local",
		"fe80::1%eth0":             "bound to an interface",
		"2600::1%eth0":             "bound to an interface",
		"fec0::1":                  "not a global unicast",
		"ff02::1":                  "multicast",
		"1.1.1.1":                  "",
		"9.255.255.255":            "",
		"100.63.255.255":           "",
		"100.128.0.0":              "",
		"172.15.255.255":           "",
		"172.32.0.0":               "",
		"169.253.255.255":          "",
		"223.255.255.255":          "",
		"::ffff:1.1.1.1":           "",
		"64:ff9b::1.1.1.1":         "",
		"2600:1f18::1":             "",
		"2a05:d018::1":             "",
	} {
		_, got := specialBlock(netip.MustParseAddr(addr))
		if (class == "") != (got == "") || !strings.HasPrefix(got, class) {
			t.Errorf("%s is %q, want %q", addr, got, class)
		}
		err := List{}.CheckAddress(netip.MustParseAddr(addr), 443, Source{})
		if (err != nil) != (class != "") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, class := specialBlock(netip.Addr{}); class == "" {
		t.Error("the zero address is taken for public")
	}
}

func TestListedAddresses(t *testing.T) {
	a := mustAllow(t, "name.example:443", "10.0.3.17:443", "[fd00::1]:443", "[64:ff9b::a00:1]:443")
	for _, test := range []struct {
		addr string
		port uint16
		ok   bool
	}{
		{"10.0.3.17", 443, true},
		{"::ffff:10.0.3.17", 443, true},
		{"10.0.3.17", 80, false},
		{"10.0.3.18", 443, false},
		{"64:ff9b::10.0.3.17", 443, false},
		{"fd00::1", 443, true},
		{"fd00::1", 444, false},
		{"fd00::1%eth0", 443, false},
		{"64:ff9b::10.0.0.1", 443, true},
		{"10.0.0.1", 443, false},
	} {
		err := a.CheckAddress(netip.MustParseAddr(test.addr), test.port, Source{})
		if (err == nil) != test.ok {
			t.Errorf("%s port %d: %v", test.addr, test.port, err)
		}
	}
}
