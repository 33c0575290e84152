package allowfile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// The file that AWS's program is installed with is taken as it is, whole.
func TestReadsTheFileOfAWS(t *testing.T) {
	content, err := os.ReadFile("testdata/vsock-proxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := Read(strings.NewReader(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(a.Entries()), strings.Count(string(content), "address:"); got != want || got != 52 {
		t.Errorf("%d entries of %d", got, want)
	}
	for _, s := range []string{"kms.us-east-1.amazonaws.com:443", "kms-fips.us-gov-west-1.amazonaws.com:443", "kms.cn-north-1.amazonaws.com:443"} {
		if !slices.Contains(a.Entries(), s) {
			t.Errorf("%s is not permitted", s)
		}
	}
	if slices.Contains(a.Entries(), "kms.us-east-1.amazonaws.com:80") {
		t.Error("another port is permitted")
	}
}

func TestRead(t *testing.T) {
	for text, want := range map[string][]string{
		"allowlist:\n- {address: kms.us-east-1.amazonaws.com, port: 443}\n":                {"kms.us-east-1.amazonaws.com:443"},
		"---\nallowlist:\n  - port: 443\n    address: KMS.example.\n...\n":                 {"kms.example:443"},
		"\ufeffallowlist: [{address: a.example, port: 443}]":                               {"a.example:443"},
		"{\"allowlist\": [{\"address\": \"a.example\", \"port\": 443}]}":                   {"a.example:443"},
		"allowlist: [{address: a.example, port: 8000-8100}]":                               {"a.example:8000-8100"},
		"allowlist: [{address: a.example, port: \"443\"}]":                                 {"a.example:443"},
		"allowlist: [{address: \"*.example.com\", port: 443}]":                             {"*.example.com:443"},
		"allowlist: [{address: '*.example.com', port: 443, cids: [17, 16]}]":               {"*.example.com:443 cid=16,17"},
		"allowlist: [{address: 10.0.3.17, port: 443}, {address: 10.0.0.0/8, port: 1}]":     {"10.0.3.17:443", "10.0.0.0/8:1"},
		"allowlist: [{address: \"fd00::1\", port: 443}, {address: \"fd00::/8\", port: 1}]": {"[fd00::1]:443", "[fd00::/8]:1"},
		"# a list\nallowlist:\r\n- {address: a.example, port: 443} # one\r\n":              {"a.example:443"},
		// An anchor that nobody uses does no harm.
		"allowlist: &all [{address: a.example, port: 443}]": {"a.example:443"},
		// The same twice is once too often and means nothing else.
		"allowlist: [{address: a.example, port: 443}, {address: a.example, port: 443}]": {"a.example:443", "a.example:443"},
	} {
		a, err := Read(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := a.Entries(); !slices.Equal(got, want) {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestReadAllowlistErrors(t *testing.T) {
	entry := func(s string) string { return "allowlist:\n- {address: ok.example, port: 443}\n- " + s + "\n" }
	for text, says := range map[string]string{
		"":                                       "it is empty",
		"# nothing\n":                            "it is empty",
		"---\n":                                  "is not a mapping",
		"allowlist":                              `"allowlist" is not a mapping`,
		"- a\n":                                  "a list is not a mapping",
		"{}":                                     "key allowlist is missing",
		"allowlist:\n":                           "is not a list",
		"allowlist: {}\n":                        "a mapping is not a list",
		"allowlist: []\n":                        "the allowlist is empty",
		"allowlist: !x []\n":                     "is not a list",
		"whitelist: []\n":                        `unknown key "whitelist"`,
		"Allowlist: []\n":                        `unknown key "Allowlist"`,
		"allowlist: []\nx: 1\n":                  `line 2 has the unknown key "x"`,
		"allowlist: []\nallowlist: []\n":         "line 2 has the key allowlist a second time",
		"allowlist: [\n":                         "not one YAML document",
		"allowlist: []\n---\nallowlist: []\n":    "a second document",
		"allowlist: []\n--- [\n":                 "not one YAML document",
		"\x00":                                   "not one YAML document",
		"? [a]\n: b\n":                           "a key in line 1: a list is not a string",
		"1: b\n":                                 `a key in line 1: "1" is not a string`,
		entry("a.example:443"):                   "entry 2 of the allowlist, line 3",
		entry("a.example"):                       `"a.example" is not a mapping`,
		entry("{address: a.example}"):            "the key port is missing",
		entry("{port: 443}"):                     "the key address is missing",
		entry("{address: , port: 443}"):          `address: "" is not a string`,
		entry("{address: '', port: 443}"):        "the host is empty",
		entry("{address: 1, port: 443}"):         `address: "1" is not a string`,
		entry("{address: yes, port: 443, x: 1}"): `unknown key "x"`,
		entry("{address: a.example, port: 443, port: 80}"):                                                       "the key port a second time",
		entry("{address: a.example, port: 443, address: b}"):                                                     "the key address a second time",
		entry("{address: a.example, port: 0}"):                                                                   `port "0"`,
		entry("{address: a.example, port: 65536}"):                                                               `port "65536"`,
		entry("{address: a.example, port: 65979}"):                                                               `port "65979"`, // 443 to AWS's program
		entry("{address: a.example, port: -443}"):                                                                `port ""`,
		entry("{address: a.example, port: 443.0}"):                                                               `"443.0" is not a number`,
		entry("{address: a.example, port: 0x1bb}"):                                                               `port "0x1bb"`,
		entry("{address: a.example, port: 0443}"):                                                                `port "0443"`,
		entry("{address: a.example, port: 4_43}"):                                                                `port "4_43"`,
		entry("{address: a.example, port: [443]}"):                                                               "port: a list is not a number",
		entry("{address: a.example, port: 99999999999999999999}"):                                                "is not a",
		entry("{address: a.example, port: '443 cid=16'}"):                                                        "has a space",
		entry("{address: a.example, port: https}"):                                                               `port "https"`,
		entry("{address: \"a.example:443\", port: 443}"):                                                         "':'",
		entry("{address: \"a.example:443 cid=1\", port: 443}"):                                                   "has a space",
		entry("{address: \"[fd00::1]\", port: 443}"):                                                             "has a space or brackets",
		entry("{address: *.example.com, port: 443}"):                                                             "quotes",
		entry("{address: \"*.com\", port: 443}"):                                                                 "two labels",
		entry("{address: bücher.example, port: 443}"):                                                            "xn--",
		entry("{address: a.example, port: 443, cids: []}"):                                                       "the list is empty",
		entry("{address: a.example, port: 443, cids: }"):                                                         "cids: \"\" is not a list",
		entry("{address: a.example, port: 443, cids: 16}"):                                                       "cids: \"16\" is not a list",
		entry("{address: a.example, port: 443, cids: [x]}"):                                                      `cids: "x" is not a number`,
		entry("{address: a.example, port: 443, cids: ['16']}"):                                                   `cids: "16" is not a number`,
		entry("{address: a.example, port: 443, cids: [4294967295]}"):                                             "context ID",
		entry("{address: a.example, port: 443, cid: 16}"):                                                        `unknown key "cid"`,
		entry("{<<: {address: a.example}, port: 443}"):                                                           "a key in line 3",
		"allowlist:\n- &a {address: ok.example, port: 443}\n- *a\n":                                              "an alias",
		"allowlist: &a [*a]\n":                                                                                   "alias",
		"allowlist: [{address: &a x.example, port: 443}, {address: *a, port: 443}]":                              "an alias",
		entry("{address: " + strings.Repeat("a", 2000) + ", port: 443}"):                                         "2000 bytes long",
		strings.Repeat("#", MaxSize+1):                                                                           "more than",
		"allowlist:\n" + strings.Repeat("- {address: a.example, port: 443}\n", vsockproxy.MaxAllowlistEntries+1): "4097 entries",
		strings.Repeat("[", 20000):                                                                               "not one YAML document",
		strings.Repeat("k: &k\n ", 200):                                                                          "",
		billionLaughs():                                                                                          "unknown key",
	} {
		a, err := Read(strings.NewReader(text))
		if err == nil || len(a.Entries()) != 0 {
			t.Errorf("%.80q is accepted", text)
			continue
		}
		wantReason(t, err, vsockproxy.ReasonInvalidAllowlist)
		if !strings.Contains(err.Error(), says) {
			t.Errorf("%.80q: %v; does not say %q", text, err, says)
		}
		if len(err.Error()) > 2000 {
			t.Errorf("%.80q: a message of %d bytes", text, len(err.Error()))
		}
	}
	broken := errors.New("broken")
	_, err := Read(io.MultiReader(strings.NewReader("allowlist: []"), iotest.ErrReader(broken)))
	if e := wantReason(t, err, vsockproxy.ReasonInvalidAllowlist); !errors.Is(e, broken) {
		t.Errorf("%v does not wrap the error of the reader", e)
	}
}

// billionLaughs is a document whose aliases stand for 10^9 strings.
func billionLaughs() string {
	text := "a0: &a0 [lol]\n"
	for i := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return text + "allowlist: *a9\n"
}

func FuzzRead(f *testing.F) {
	content, err := os.ReadFile("testdata/vsock-proxy.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(content))
	for _, s := range []string{
		"allowlist:\n- {address: \"*.example.com\", port: 8000-8100, cids: [16, 17]}\n",
		"allowlist: &a [*a]\n", "allowlist: []\n---\n", billionLaughs(), "{\"allowlist\": [{}]}", "%YAML 1.1\n---\n!!map {? a : b}\n",
		"allowlist:\n- address: 10.0.0.0/8\n  port: |\n    443\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Read(strings.NewReader(s))
		if err != nil {
			wantReason(t, err, vsockproxy.ReasonInvalidAllowlist)
			if len(a.Entries()) != 0 {
				t.Fatal("entries beside an error")
			}
			var p *contain.PanicError
			if errors.As(err, &p) {
				t.Fatalf("%q: %v\n%s", s, err, p.Stack)
			}
			return
		}
		entries := a.Entries()
		if len(entries) == 0 || len(entries) > vsockproxy.MaxAllowlistEntries {
			t.Fatalf("%d entries", len(entries))
		}
		if again := reparsed(t, entries); !slices.Equal(entries, again) {
			t.Fatalf("entries %q parse to %q", entries, again)
		}
	})
}

// reparsed returns the entries of an allowlist of these entries.
func reparsed(t *testing.T, entries []string) []string {
	t.Helper()
	a, err := vsockproxy.ParseAllowlist(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return a.Entries()
}
