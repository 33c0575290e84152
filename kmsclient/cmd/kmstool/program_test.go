package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
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

// stuck is an NSM that tells when it is asked, and doesn't answer.
type stuck struct {
	asked, free chan struct{}
}

func (s *stuck) Send([]byte) ([]byte, error) {
	close(s.asked)
	<-s.free
	return nil, errors.New("too late")
}

func (s *stuck) Close() error { return nil }

// A signal ends a call at once, although its request to the NSM can't be called
// back.
func TestSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't send itself a signal on Windows")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", testID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecret)
	device := &stuck{asked: make(chan struct{}), free: make(chan struct{})}
	defer close(device.free)
	go func() {
		<-device.asked
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(syscall.SIGTERM)
		}
		if err != nil {
			t.Error(err)
		}
	}()
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
	f := &flags{secret: testSecret, sessionToken: testToken}
	err := &kmsclient.Error{Op: "Decrypt", Reason: kmsclient.ReasonKMS, Code: "InvalidSignatureException",
		Err: fmt.Errorf("The canonical string should have been 'x-amz-security-token:%s\n%s\x1b[2J\u202e'", testToken, testSecret)}
	for _, asJSON := range []bool{false, true} {
		f.json = asJSON
		var stdout, stderr bytes.Buffer
		p := program{stdout: &stdout, stderr: &stderr}
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
		name, text, stdin string
		size              int
		fault             string
	}{
		{"the longest", encode(maxCiphertext), "", maxCiphertext, ""},
		{"a byte more", encode(maxCiphertext + 1), "", 0, "has 6145 bytes: KMS takes 6144"},
		{"spaces around", " " + encode(3) + "\n", "", 3, ""},
		{"not padded", "AA", "", 0, "isn't base64"},
		{"URL alphabet", "__-_", "", 0, "isn't base64"},
		{"only spaces", " ", "", 0, "is empty"},
		{"standard input", "-", encode(30) + "\r\n" + encode(3) + "\n", 33, ""},
		{"empty standard input", "-", "", 0, "on the standard input is empty"},
		{"endless standard input", "-", strings.Repeat("A", 1<<20), 0, "on the standard input is too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := program{stdin: strings.NewReader(test.stdin)}
			blob, err := p.ciphertext(test.text)
			if len(blob) != test.size || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%d bytes, error %v", len(blob), err)
			}
		})
	}
}

// The program is one file: no dynamic linker, no libraries.
func TestStaticallyLinked(t *testing.T) {
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
