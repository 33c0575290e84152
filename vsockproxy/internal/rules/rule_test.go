package rules

import (
	"slices"
	"strings"
	"testing"
)

var (
	cid16  = Source{CID: 16, Known: true}
	cid17  = Source{CID: 17, Known: true}
	nobody = Source{}
)

func TestRules(t *testing.T) {
	for _, test := range []struct {
		entry string
		yes   []string
		no    []string
	}{
		{
			entry: "*.Example.com.:443",
			yes:   []string{"a.example.com:443", "A.B.EXAMPLE.com.:443", "_x.example.com:443"},
			no: []string{
				"example.com:443", "aexample.com:443", "a-example.com:443", "a.example.com:444", "a.example.com.evil.example:443",
				"a.example.org:443", "com:443", "1.1.1.1:443",
			},
		},
		{
			entry: "kms.eu-west-1.amazonaws.com:8000-8100",
			yes:   []string{"kms.eu-west-1.amazonaws.com:8000", "kms.eu-west-1.amazonaws.com:8050", "kms.eu-west-1.amazonaws.com:8100"},
			no:    []string{"kms.eu-west-1.amazonaws.com:7999", "kms.eu-west-1.amazonaws.com:8101", "a.kms.eu-west-1.amazonaws.com:8000"},
		},
		{
			entry: "a.example:1-65535",
			yes:   []string{"a.example:1", "a.example:65535"},
			no:    []string{"b.a.example:1"},
		},
		{
			entry: "10.0.3.0/24:443",
			yes:   []string{"10.0.3.0:443", "10.0.3.255:443", "[::ffff:10.0.3.7]:443"},
			no:    []string{"10.0.4.0:443", "10.0.3.1:80", "a.example:443", "[64:ff9b::10.0.3.7]:443"},
		},
		{
			entry: "[::ffff:10.0.3.0/120]:443",
			yes:   []string{"10.0.3.9:443"},
			no:    []string{"10.0.4.0:443"},
		},
		{
			entry: "[2600:1f18::/32]:443",
			yes:   []string{"[2600:1f18::1]:443", "[2600:1f18:ffff::]:443"},
			no:    []string{"[2600:1f19::1]:443", "1.1.1.1:443"},
		},
		{
			entry: "10.0.3.17/32:443",
			yes:   []string{"10.0.3.17:443"},
			no:    []string{"10.0.3.18:443"},
		},
		{
			entry: "0.0.0.0/0:443",
			yes:   []string{"1.1.1.1:443", "223.255.255.255:443"},
			no: []string{
				"127.0.0.1:443", "10.0.0.1:443", "169.254.169.254:443", "169.254.170.2:443", "169.254.1.1:443", "192.168.1.1:443",
				"100.64.0.1:443", "224.0.0.1:443", "255.255.255.255:443", "0.0.0.0:443", "[2600::1]:443",
			},
		},
		{
			entry: "[::/0]:443",
			yes:   []string{"[2600::1]:443", "[64:ff9b::1.1.1.1]:443"},
			no: []string{
				"[::1]:443", "[fd00:ec2::254]:443", "[fd00::1]:443", "[fe80::1]:443", "[64:ff9b::169.254.169.254]:443",
				"[64:ff9b::10.0.0.1]:443", "[2002:a00:1::]:443", "[fec0::1]:443", "[::]:443", "1.1.1.1:443", "127.0.0.1:443",
				"169.254.169.254:443",
			},
		},
		{
			entry: "[2002::/16]:80", // 6to4 carries IPv4 addresses
			yes:   nil,
			no:    []string{"[2002:a9fe:a9fe::1]:80", "[2002:a00:1::]:80"},
		},
		{
			entry: "[64:ff9b:1::/48]:80", // and so does NAT64 of one's own
			yes:   nil,
			no:    []string{"[64:ff9b:1::a9fe:a9fe]:80"},
		},
		{
			entry: "169.254.0.0/16:80", // link-local, without the services that give credentials
			yes:   []string{"169.254.169.253:80", "169.254.1.1:80"},
			no:    []string{"169.254.169.254:80", "[::ffff:169.254.169.254]:80", "169.254.170.2:80", "169.254.170.23:80"},
		},
		{
			entry: "169.254.169.254/31:80",
			yes:   []string{"169.254.169.255:80"},
			no:    []string{"169.254.169.254:80"},
		},
		{
			entry: "[fd00:ec2::/32]:80",
			yes:   []string{"[fd00:ec2::253]:80"},
			no:    []string{"[fd00:ec2::254]:80", "[fd00:ec2::23]:80"},
		},
		{
			entry: "[64:ff9b::/96]:80",
			yes:   []string{"[64:ff9b::1.1.1.1]:80"},
			no:    []string{"[64:ff9b::10.0.0.1]:80", "[64:ff9b::169.254.169.254]:80"},
		},
		{
			entry: "[64:ff9b::10.0.0.0/104]:80",
			yes:   []string{"[64:ff9b::10.0.0.1]:80"},
			no:    []string{"[64:ff9b::1.1.1.1]:80", "10.0.0.1:80"},
		},
		{
			entry: "8.0.0.0/5:80", // wider than 10.0.0.0/8
			yes:   []string{"8.8.8.8:80", "11.0.0.1:80"},
			no:    []string{"10.0.0.1:80"},
		},
		{entry: "169.254.169.254:80", yes: []string{"169.254.169.254:80"}, no: []string{"169.254.169.254:443"}},
		{entry: "[fd00:ec2::254]:80", yes: []string{"[fd00:ec2::254]:80"}, no: []string{"169.254.169.254:80"}},
		{entry: "[100::1]:80", yes: []string{"[100::1]:80"}},
		{entry: "[100::/64]:80", no: []string{"[100::1]:80"}},
	} {
		a := mustAllow(t, test.entry)
		for _, s := range test.yes {
			if !a.Allows(mustTarget(t, s), nobody) {
				t.Errorf("%s does not permit %s", test.entry, s)
			}
		}
		for _, s := range test.no {
			if a.Allows(mustTarget(t, s), nobody) {
				t.Errorf("%s permits %s", test.entry, s)
			}
		}
	}
}

func TestBadRules(t *testing.T) {
	for entry, says := range map[string]string{
		"*:443":                        "stands for whole labels",
		"*":                            "not host:port",
		"*.:443":                       "the host is empty",
		"*.com:443":                    "two labels",
		"*.com.:443":                   "two labels",
		"*.localhost:443":              "two labels",
		"*.co.uk:443":                  "anybody can register",
		"*.nom.br:443":                 "anybody can register",
		"*.kawasaki.jp:443":            "anybody can register",
		"*.\u212Ams.example.com:443":   "xn--",
		"*.foo.ck:443":                 "anybody can register",
		"*.CO.JP:443":                  "anybody can register",
		"*.*.example.com:443":          "* is only for",
		"a.*.example.com:443":          "* is only for",
		"*a.example.com:443":           "whole labels",
		"**.example.com:443":           "whole labels",
		"*.10.0.0.1:443":               "addresses have no patterns",
		"[*.::1]:443":                  "addresses have no patterns",
		"10.0.0.1/8:443":               "write 10.0.0.0/8",
		"10.0.0.0/33:443":              "not a network",
		"10.0.0.0/08:443":              "not a network",
		"10.0/16:443":                  "not a network",
		"example.com/24:443":           "not a network",
		"[fe80::%eth0/64]:443":         "not a network",
		"[::ffff:0.0.0.0/95]:443":      "mixes",
		"2600::/32:443":                "in brackets",
		"[2600::]/32:443":              "in brackets",
		"169.254.169.254/32:80":        "list the address without /32",
		"[fd00:ec2::254/128]:80":       "list the address without /128",
		"[64:ff9b::a9fe:a9fe/128]:80":  "list the address without /128",
		"a.example:443-":               `port ""`,
		"a.example:-443":               `port ""`,
		"a.example:0-443":              `port "0"`,
		"a.example:443-65536":          `port "65536"`,
		"a.example:444-443":            "end before they begin",
		"a.example:1-2-3":              `port "2-3"`,
		"a.example:*":                  `port "*"`,
		"a.example:443,444":            `port "443,444"`,
		"a.example:443 ":               "not of the form cid=",
		"a.example:443 16":             "not of the form cid=",
		"a.example:443 cid=":           `context ID ""`,
		"a.example:443 cid=16,":        `context ID ""`,
		"a.example:443 cid=016":        `context ID "016"`,
		"a.example:443 cid=-1":         `context ID "-1"`,
		"a.example:443 cid=4294967295": `context ID "4294967295"`,
		"a.example:443 cid=16 cid=17":  "context ID",
		"a.example:443  cid=16":        "not of the form cid=",
		"a.example:443 cid=1" + strings.Repeat(",1", 64):              "65 context IDs",
		"*." + strings.Repeat(strings.Repeat("a", 62)+".", 4) + "x:1": "short enough",
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
	_, err := Parse(make([]string, MaxEntries+1)...)
	wantError(t, err, 0)
}

// A pattern below which only customers of one company are is wide, and permitted.
func TestWidePatterns(t *testing.T) {
	mustAllow(t, "*.s3.amazonaws.com:443", "*.amazonaws.com:443", "*.github.io:443", "*.svc.internal:443", "*.example.co.uk:443")
}

func TestEntries(t *testing.T) {
	got := entriesOf(mustAllow(t,
		"*.Example.COM.:443",
		"KMS.eu-west-1.amazonaws.com.:443-443",
		"a.example:8000-8100 cid=17,16,17",
		"10.0.3.17/32:443",
		"[2600:1f18:0::/32]:443",
		"[::ffff:10.0.0.0/104]:443 cid=4294967294",
		"[2600:1f18::1]:1-65535",
	))
	want := []string{
		"*.example.com:443",
		"kms.eu-west-1.amazonaws.com:443",
		"a.example:8000-8100 cid=16,17",
		"10.0.3.17:443",
		"[2600:1f18::/32]:443",
		"10.0.0.0/8:443 cid=4294967294",
		"[2600:1f18::1]:1-65535",
	}
	if !slices.Equal(got, want) {
		t.Errorf("entries\n%q, want\n%q", got, want)
	}
	if got := entriesOf(mustAllow(t, want...)); !slices.Equal(got, want) {
		t.Errorf("entries of entries %q", got)
	}
}

func TestRulesForContextIDs(t *testing.T) {
	a := mustAllow(t,
		"one.example:443 cid=16",
		"both.example:443 cid=16,17",
		"all.example:443",
		"10.0.0.0/8:443 cid=16",
		"split.example:443 cid=16", "split.example:443 cid=17",
	)
	for _, test := range []struct {
		target               string
		ok16, ok17, okNobody bool
	}{
		{"one.example:443", true, false, false},
		{"both.example:443", true, true, false},
		{"all.example:443", true, true, true},
		{"10.0.0.1:443", true, false, false},
		{"split.example:443", true, true, false},
		{"none.example:443", false, false, false},
	} {
		for from, ok := range map[Source]bool{cid16: test.ok16, cid17: test.ok17, nobody: test.okNobody, {CID: 16}: test.okNobody} {
			target := mustTarget(t, test.target)
			if a.Allows(target, from) != ok {
				t.Errorf("%s for %v is allowed: %v, want %v", test.target, from, !ok, ok)
			}
			if err := a.Check(target, from); (err == nil) != ok {
				t.Errorf("%s for %v: %v", test.target, from, err)
			} else if err != nil && strings.Contains(err.Error(), "but not for") != a.Lists(target) {
				t.Errorf("%s for %v: %v", test.target, from, err)
			}
		}
	}
	// What the rules say of addresses holds for the addresses of names.
	for from, ok := range map[Source]bool{cid16: true, cid17: false, nobody: false} {
		if err := a.CheckAddress(mustTarget(t, "10.0.0.1:443").Addr, 443, from); (err == nil) != ok {
			t.Errorf("an address for %v: %v", from, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"kms.eu-west-1.amazonaws.com:443", "A.b.:1", "10.0.0.1:443", "[::ffff:1.2.3.4]:65535", "[::1]:1", "*.x:1", "127.1:1", ":", "",
		"*.example.com:1-65535 cid=3,16", "10.0.0.0/8:443", "[::ffff:10.0.0.0/104]:1", "[::/0]:5 cid=", "[fd00:ec2::254/128]:80",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			wantError(t, err, 1)
			if len(a) != 0 {
				t.Fatal("entries beside an error")
			}
		} else {
			entries := entriesOf(a)
			again := entriesOf(mustAllow(t, entries...))
			if !slices.Equal(entries, again) {
				t.Fatalf("%q parses to %q, which parses to %q", s, entries, again)
			}
		}
		parsed, err := ParseTarget(s)
		if err != nil {
			return
		}
		if !mustAllow(t, s).Allows(parsed, nobody) {
			t.Fatalf("%q is not on its own allowlist: %v", s, err)
		}
		if again := mustTarget(t, parsed.String()); again != parsed {
			t.Fatalf("%q parses to %v, whose text parses to %v", s, parsed, again)
		}
		if parsed.Port == 0 || parsed.Addr.Is4In6() || parsed.Addr.IsValid() == (parsed.Name != "") {
			t.Fatalf("%q parses to %#v", s, parsed)
		}
	})
}
