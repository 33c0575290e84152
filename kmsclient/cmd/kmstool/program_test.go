package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
)

// stuck is an NSM that tells when it is asked, and does not answer.
type stuck struct {
	asked, free chan struct{}
}

func (s *stuck) Send([]byte) ([]byte, error) {
	close(s.asked)
	<-s.free
	return nil, errors.New("too late")
}

func (s *stuck) Close() error { return nil }

// terminateOnce sends this process SIGTERM once the channel is closed.
func terminateOnce(t *testing.T, asked <-chan struct{}) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself a signal on Windows")
	}
	go func() {
		<-asked
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(syscall.SIGTERM)
		}
		if err != nil {
			t.Error(err)
		}
	}()
}

// A signal ends a call at once, although its request to the NSM cannot be called
// back.
func TestSignal(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", testID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecret)
	device := &stuck{asked: make(chan struct{}), free: make(chan struct{})}
	defer close(device.free)
	terminateOnce(t, device.asked)
	pool := filepath.Join(t.TempDir(), "pool")
	if err := os.WriteFile(pool, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, entropyPool: pool,
		openNSM: func() (*nsm.Session, error) { return nsm.NewSession(device), nil }}
	code := p.run([]string{"genrandom", "--region", "eu-west-1", "--length", "8"})
	if code != exitFailed || stdout.Len() != 0 || !strings.Contains(stderr.String(), "interrupted by a signal: ") {
		t.Errorf("exits with %d\n%s%s", code, stdout.String(), stderr.String())
	}
}

// Some of KMS's messages repeat the request that was signed.
func TestMessagesHaveNoSecrets(t *testing.T) {
	f := &flags{}
	err := &kmsclient.Error{Op: "Decrypt", Reason: kmsclient.ReasonKMS, Code: "InvalidSignatureException",
		Err: fmt.Errorf("The canonical string should have been 'x-amz-security-token:%s\n%s\x1b[2J\u202e'", testToken, testSecret)}
	for _, asJSON := range []bool{false, true} {
		f.json = asJSON
		var stdout, stderr bytes.Buffer
		p := program{stdout: &stdout, stderr: &stderr}
		p.keepSecret(testSecret, testToken)
		if code := p.report(context.Background(), commands["decrypt"], f, fmt.Errorf("operation error KMS: %w", err)); code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		all := stdout.String() + stderr.String()
		if strings.Contains(all, testSecret) || strings.Contains(all, testToken) || strings.Count(all, "(secret)") == 0 {
			t.Error(all)
		}
		if strings.Trim(all, "\n") == "" || strings.ContainsFunc(all, func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }) {
			t.Errorf("%+q", all)
		}
		if strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("more than a line: %q", stderr.String())
		}
	}
}

// Without flags all is where kmstool_enclave_cli has it.
func TestEndpointsOfFlags(t *testing.T) {
	for _, test := range []struct{ args, proxy, imds string }{
		{"", "vsock://3:8000", ""},
		{"--proxy-port 8003", "vsock://3:8003", ""},
		{"--proxy-port=8003 --imds-port=8002", "vsock://3:8003", "vsock://3:8002"},
		{"-x 1", "vsock://3:1", ""},
		{"--proxy hybrid:///run/v.sock?port=8000 --imds tcp://127.0.0.1:80", "hybrid:///run/v.sock?port=8000", "tcp://127.0.0.1:80"},
	} {
		p := program{}
		f, err := p.parse(commands["genrandom"], strings.Fields("--length 8 "+test.args))
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
		} else if f.proxy.String() != test.proxy || f.imds.String() != test.imds {
			t.Errorf("%s: proxy %v, metadata service %v", test.args, f.proxy, f.imds)
		}
	}
}

func TestCiphertext(t *testing.T) {
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, test := range []struct {
		name, text string
		size       int
		fault      string
	}{
		{"the longest", encode(maxCiphertext), maxCiphertext, ""},
		{"a byte more", encode(maxCiphertext + 1), 0, "has 6145 bytes: KMS takes 6144"},
		{"spaces around", " " + encode(3) + "\n", 3, ""},
		{"line breaks", encode(30) + "\r\n" + encode(3) + "\n", 33, ""},
		{"not padded", "AA", 0, "is not base64"},
		{"URL alphabet", "__-_", 0, "is not base64"},
		{"the sign of the standard input", "-", 0, "is not base64"},
		{"only spaces", " ", 0, "is empty"},
		{"nothing", "", 0, "is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			blob, err := decodeCiphertext(test.text)
			if len(blob) != test.size || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%d bytes, error %v", len(blob), err)
			}
		})
	}
}

// endless counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'A'
	}
	e.read += len(b)
	return len(b), nil
}

func TestCiphertextFileIsBounded(t *testing.T) {
	stdin := &endless{}
	p := program{stdin: stdin}
	f := &flags{ciphertextFile: "-"}
	err := p.readFiles(t.Context(), f)
	if _, ok := errors.AsType[misuse](err); !ok || err.Error() != "--ciphertext-file: has more than 12288 bytes" || f.ciphertext != nil {
		t.Errorf("error %v", err)
	}
	if stdin.read > 2*maxCiphertext+1 {
		t.Errorf("%d bytes were read", stdin.read)
	}
}

// open is a standard input that tells when it is read, and does not end.
type open struct{ asked, free chan struct{} }

func (o *open) Read([]byte) (int, error) {
	close(o.asked)
	<-o.free
	return 0, io.EOF
}

// Waiting for a ciphertext ends with the time and with a signal, before anything
// else is asked.
func TestCiphertextFileIsAwaited(t *testing.T) {
	for _, test := range []struct{ name, timeout, message string }{
		{"timeout", "20ms", "not done within 20ms, the limit that --timeout sets: --ciphertext-file: not at its end yet: "},
		{"signal", "1h", "interrupted by a signal: --ciphertext-file: not at its end yet: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdin := &open{asked: make(chan struct{}), free: make(chan struct{})}
			defer close(stdin.free)
			if test.name == "signal" {
				terminateOnce(t, stdin.asked)
			}
			var stdout, stderr bytes.Buffer
			p := program{stdin: stdin, stdout: &stdout, stderr: &stderr,
				openNSM: func() (*nsm.Session, error) { t.Error("the NSM was opened"); return nil, nsm.ReasonNoDevice }}
			code := p.run([]string{"decrypt", "--json", "--ciphertext-file", "-", "--timeout", test.timeout})
			if code != exitFailed || !strings.HasPrefix(stderr.String(), "kmstool decrypt: "+test.message) || strings.Contains(stderr.String(), "hint") {
				t.Errorf("exits with %d\n%s", code, stderr.String())
			}
			if reason := map[string]string{"timeout": "timeout", "signal": "interrupted"}[test.name]; !strings.Contains(stdout.String(), `{"error":{"reason":"`+reason+`"`) {
				t.Errorf("%s", stdout.String())
			}
		})
	}
}

func TestWithoutSecrets(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	for _, test := range []struct{ text, want string }{
		{"region is " + secret + ", no", "region is (secret), no"},
		{secret + secret, "(secret)"},
		{`is "` + secret[:20] + `", cut short`, `is "(secret)", cut short`},
		{"cut short in front: " + secret[30:], "cut short in front: (secret)"},
		{"seven are " + secret[5:12], "seven are " + secret[5:12]},
		{"eight are " + secret[5:13], "eight are (secret)"},
		{"https://" + strings.ToLower(secret[:13]) + ".example", "https://(secret).example"},
		{"\u2026\xff\u0130" + secret, "\u2026\xff\u0130(secret)"},
		{"", ""},
	} {
		var p program
		p.keepSecret("", secret, "another, of which "+secret[8:24]+" is the same")
		if got := p.withoutSecrets(test.text); got != test.want {
			t.Errorf("%+q: %+q", test.text, got)
		}
	}
	var p program
	p.keepSecret("short")
	if got := p.withoutSecrets("Short of a shor"); got != "(secret) of a shor" {
		t.Errorf("%q", got)
	}
}

func TestEncryptionContextIsText(t *testing.T) {
	for _, test := range []string{
		"k=\xff", "\xff=v", "k=\ufffd", "\ufffd=v", "k=\xed\xa0\x80",
		`{"k":"\ud800"}`, `{"\udfff":"v"}`, `{"k":"\ude00\ud83d"}`, `{"k":"\ufffd"}`, "{\"k\":\"\xff\"}", "{\"\xff\":\"v\"}", "{\"k\":\"\ufffd\"}",
	} {
		f := &flags{}
		if err := f.addContext(test); err == nil || !strings.Contains(err.Error(), "is not UTF-8") || len(f.context) != 0 {
			t.Errorf("%+q: error %v, context %+q", test, err, f.context)
		}
	}
	f := &flags{}
	if err := errors.Join(f.addContext(`{"a":"\ud83d\ude00"}`), f.addContext("\u00fc=\U0001f600")); err != nil {
		t.Error(err)
	}
	if f.context["a"] != "\U0001f600" || f.context["\u00fc"] != "\U0001f600" {
		t.Errorf("%+q", f.context)
	}
}

// The program is one file: no dynamic linker, no libraries.
func TestStaticallyLinked(t *testing.T) {
	t.Parallel() // beside the scripts, which wait
	binary := filepath.Join(t.TempDir(), "kmstool")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("the program has a segment %v", segment.Type)
		}
	}
	if libraries, err := file.ImportedLibraries(); err == nil && len(libraries) > 0 {
		t.Errorf("the program needs %v", libraries)
	}
}
