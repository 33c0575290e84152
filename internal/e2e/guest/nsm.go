//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/fxamacker/cbor/v2"

	pcrs "github.com/keyvouch/keyvouch/attestation/pcr"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
)

// sameAnswer compares two responses by value: a document of another second
// differs by its timestamp.
func sameAnswer(got, want []byte) error {
	var g, w any
	if err := errors.Join(cbor.Unmarshal(got, &g), cbor.Unmarshal(want, &w)); err != nil {
		return err
	}
	documents := [][]byte{documentIn(g), documentIn(w)}
	if documents[0] != nil && len(documents[0]) == len(documents[1]) {
		return nil
	}
	if fmt.Sprint(g) != fmt.Sprint(w) {
		return fmt.Errorf("got %v, want %v", g, w)
	}
	return nil
}

func documentIn(response any) []byte {
	outer, _ := response.(map[any]any)
	body, _ := outer["Attestation"].(map[any]any)
	document, _ := body["document"].([]byte)
	return document
}

// wantError checks an error's kind, and the NSM's code if it has one.
func wantError(err error, reason nsm.Reason, code nsm.Code) error {
	var e *nsm.Error
	if !errors.As(err, &e) || e.Reason != reason || e.Code != code {
		return fmt.Errorf("%v, want reason %q and code %q", err, reason, code)
	}
	return nil
}

// session runs f with a session of its own.
func session(f func(ctx context.Context, s *nsm.Session) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		s, err := nsm.Open()
		if err != nil {
			return "", err
		}
		detail, err := f(ctx, s)
		return detail, errors.Join(err, s.Close())
	}
}

// nsm runs each operation against the kernel's driver. PCRs 16 to 18 were used by
// the recording; these take 20 and up.
func (g *guest) nsm() {
	provoked := map[nsm.Code]bool{}
	refused := func(err error, code nsm.Code) error {
		provoked[code] = true
		return wantError(err, nsm.ReasonNSM, code)
	}

	g.check("nsm/describe", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		d, err := s.Describe(ctx)
		if err != nil {
			return "", err
		}
		if d.MaxPCRs != 32 || d.Digest != "SHA384" || d.ModuleID == "" {
			return "", fmt.Errorf("%+v", d)
		}
		g.facts(map[string]string{"NSM": fmt.Sprintf("%s, API %d.%d.%d", d.ModuleID, d.VersionMajor, d.VersionMinor, d.VersionPatch)})
		return fmt.Sprintf("%+v", d), nil
	}))

	g.check("nsm/pcrs-at-boot", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		facts := map[string]string{}
		for index := range 16 {
			pcr, err := s.DescribePCR(ctx, index)
			if err != nil {
				return "", err
			}
			// The recording has locked them where the machine does not.
			if !pcr.Locked || pcr.Index != index {
				return "", fmt.Errorf("%+v", pcr)
			}
			if slices.Contains([]int{0, 1, 2, 3, 4}, index) {
				facts["PCR"+strconv.Itoa(index)] = pcr.Value.String()
			}
		}
		g.facts(facts)
		return "16 PCRs, of which the host judges 0 to 4", nil
	}))

	g.check("nsm/describe-pcr-refusals", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		var errs []error
		for index, code := range map[int]nsm.Code{32: nsm.CodeInvalidIndex, 255: nsm.CodeInvalidIndex, 300: nsm.CodeInvalidOperation, 65535: nsm.CodeInvalidOperation} {
			_, err := s.DescribePCR(ctx, index)
			errs = append(errs, refused(err, code))
		}
		for _, index := range []int{-1, 65536} {
			_, err := s.DescribePCR(ctx, index)
			errs = append(errs, wantError(err, nsm.ReasonInvalidArgument, ""))
		}
		return "32, 255, 300, 65535, -1, 65536", errors.Join(errs...)
	}))

	g.check("nsm/extend", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		want := pcrs.Value{}
		sizes := []int{5, 0, 1024, 4000, 4054}
		for _, size := range sizes {
			data := pattern(size)
			got, err := s.ExtendPCR(ctx, 20, data)
			if err != nil {
				return "", fmt.Errorf("%d bytes: %w", size, err)
			}
			want = sha512.Sum384(append(want[:], data...))
			pcr, err := s.DescribePCR(ctx, 20)
			if err != nil {
				return "", err
			}
			if got != want || pcr.Value != want || pcr.Locked {
				return "", fmt.Errorf("%d bytes: got %v and read %+v, want %v", size, got, pcr, want)
			}
		}
		for _, size := range []int{4097, 1 << 20} {
			if _, err := s.ExtendPCR(ctx, 20, make([]byte, size)); wantError(err, nsm.ReasonRequestSize, "") != nil {
				return "", err
			}
		}
		_, err := s.ExtendPCR(ctx, 32, nil)
		return fmt.Sprintf("%v bytes", sizes), refused(err, nsm.CodeInvalidIndex)
	}))

	g.check("nsm/lock", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		before, err := s.ExtendPCR(ctx, 21, []byte("locked"))
		if err != nil {
			return "", err
		}
		if err := s.LockPCR(ctx, 21); err != nil {
			return "", err
		}
		_, extended := s.ExtendPCR(ctx, 21, []byte("more"))
		pcr, err := s.DescribePCR(ctx, 21)
		if err != nil {
			return "", err
		}
		if !pcr.Locked || pcr.Value != before {
			return "", fmt.Errorf("%+v, want it locked at %v", pcr, before)
		}
		return "a locked PCR keeps its value", errors.Join(
			refused(extended, nsm.CodeReadOnlyIndex),
			refused(s.LockPCR(ctx, 21), nsm.CodeReadOnlyIndex),
			refused(s.LockPCR(ctx, 0), nsm.CodeReadOnlyIndex),
			refused(s.LockPCR(ctx, 32), nsm.CodeInvalidIndex),
		)
	}))

	g.check("nsm/lock-range", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		if err := errors.Join(s.LockPCRs(ctx, 20), s.LockPCRs(ctx, 20)); err != nil {
			return "", err
		}
		d, err := s.Describe(ctx)
		if err != nil {
			return "", err
		}
		want := append(sequence(20), 21)
		if !slices.Equal(slices.Sorted(slices.Values(d.LockedPCRs)), want) {
			return "", fmt.Errorf("locked are %v, want %v", d.LockedPCRs, want)
		}
		return fmt.Sprintf("%v", d.LockedPCRs), errors.Join(
			refused(s.LockPCRs(ctx, 33), nsm.CodeInvalidIndex),
			wantError(s.LockPCRs(ctx, 0), nsm.ReasonInvalidArgument, ""))
	}))

	g.check("nsm/attest", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		d, err := s.Describe(ctx)
		if err != nil {
			return "", err
		}
		tried := 0
		for _, r := range []nsm.AttestationRequest{
			{},
			{Nonce: pattern(32)},
			{UserData: pattern(512), Nonce: pattern(512), PublicKey: pattern(1024)},
			{UserData: pattern(1024)}, {Nonce: pattern(1024)}, {PublicKey: pattern(1024)},
			{UserData: pattern(1024), Nonce: pattern(1024), PublicKey: pattern(1024)},
		} {
			raw, err := s.Attest(ctx, r)
			if err != nil {
				return "", err
			}
			if err := checkDocument(ctx, s, d, raw, r); err != nil {
				return "", err
			}
			tried++
		}
		for _, r := range []nsm.AttestationRequest{{UserData: pattern(1025)}, {Nonce: pattern(1025)}, {PublicKey: pattern(1025)}} {
			if _, err := s.Attest(ctx, r); wantError(err, nsm.ReasonRequestSize, "") != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d documents with fields up to 3 × 1024 bytes; 1025 are refused", tried), nil
	}))

	g.check("nsm/oversize", func(context.Context) (string, error) {
		raw, err := openRaw()
		if err != nil {
			return "", err
		}
		defer raw.Close()
		device, err := nsm.OpenDevice()
		if err != nil {
			return "", err
		}
		defer device.Close()
		request := extendPCR(20, blob(make([]byte, nsm.MaxRequestSize)))
		if _, err := raw.exchange(request, make([]byte, nsm.MaxResponseSize)); err != syscall.EMSGSIZE {
			return "", fmt.Errorf("the driver answers %v to %d bytes", err, len(request))
		}
		_, err = device.Send(request)
		if !errors.Is(err, syscall.EMSGSIZE) {
			return "", fmt.Errorf("%v, want EMSGSIZE in the chain", err)
		}
		provoked[nsm.CodeInputTooLarge] = true
		if err := wantError(err, nsm.ReasonRequestSize, nsm.CodeInputTooLarge); err != nil {
			return "", err
		}
		_, empty := device.Send(nil) // refused in user space: the driver would block
		return "EMSGSIZE", wantError(empty, nsm.ReasonRequestSize, nsm.CodeInputTooLarge)
	})

	g.check("nsm/random", session(func(_ context.Context, s *nsm.Session) (string, error) {
		seen := map[[32]byte]bool{}
		for _, size := range []int{0, 1, 255, 256, 257, 4096} {
			b := make([]byte, size)
			if n, err := s.Read(b); n != size || err != nil {
				return "", fmt.Errorf("%d of %d bytes: %w", n, size, err)
			}
			for block := range slices.Chunk(b, 32) {
				if len(block) < 32 {
					continue
				}
				if key := [32]byte(block); seen[key] || key == [32]byte{} {
					return "", fmt.Errorf("a block of 32 bytes is zero or came twice")
				} else {
					seen[key] = true
				}
			}
		}
		return fmt.Sprintf("%d blocks of 32 bytes, no two alike", len(seen)), nil
	}))

	g.check("nsm/context", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		_, err := s.Describe(ended)
		if !errors.Is(err, context.Canceled) {
			return "", fmt.Errorf("%v", err)
		}
		_, after := s.Describe(ctx)
		return "a call whose context has ended isn't sent", errors.Join(wantError(err, nsm.ReasonCanceled, ""), after)
	}))

	g.check("nsm/without-rights", func(ctx context.Context) (string, error) {
		if out, err := asUser(ctx, probeArgument); err != nil {
			return "", fmt.Errorf("user 65534 can't use /dev/nsm with the driver's own mode: %s, %w", out, err)
		}
		if err := os.Chmod("/dev/nsm", 0o600); err != nil {
			return "", err
		}
		out, err := asUser(ctx, probeArgument)
		if err == nil || out != string(nsm.ReasonPermission) {
			return "", fmt.Errorf("with mode 0600: %q, %v", out, err)
		}
		return "mode 0666 serves user 65534, 0600 is reason permission", os.Chmod("/dev/nsm", 0o666)
	})

	g.check("nsm/codes", func(context.Context) (string, error) {
		want := []nsm.Code{nsm.CodeInvalidIndex, nsm.CodeReadOnlyIndex, nsm.CodeInvalidOperation, nsm.CodeInputTooLarge}
		for _, code := range want {
			if !provoked[code] {
				return "", fmt.Errorf("%s was not provoked", code)
			}
		}
		return fmt.Sprintf("provoked %v; no request is known that makes this device say InvalidArgument, InvalidResponse, BufferTooSmall, InternalError or Success", want), nil
	})
}

// lockAll locks what is left.
func (g *guest) lockAll() {
	g.check("nsm/lock-all", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		if err := s.LockPCRs(ctx, 32); err != nil {
			return "", err
		}
		raw, err := s.Attest(ctx, nsm.AttestationRequest{})
		if err != nil {
			return "", err
		}
		doc, err := e2e.ParseUnsigned(raw)
		if err != nil {
			return "", err
		}
		if n := len(doc.PCRs); n != 32 {
			return "", fmt.Errorf("a document has %d PCRs, want 32", n)
		}
		_, extended := s.ExtendPCR(ctx, 31, nil)
		return "a document has 32 PCRs", wantError(extended, nsm.ReasonNSM, nsm.CodeReadOnlyIndex)
	}))
}

// checkDocument compares what a document carries with what was asked, and with
// the PCRs that the NSM tells.
func checkDocument(ctx context.Context, s *nsm.Session, d nsm.Description, raw []byte, r nsm.AttestationRequest) error {
	doc, err := e2e.ParseUnsigned(raw)
	if err != nil {
		return err
	}
	if doc.ModuleID != d.ModuleID || !bytes.Equal(doc.Nonce, r.Nonce) || !bytes.Equal(doc.UserData, r.UserData) || !bytes.Equal(doc.PublicKey, r.PublicKey) {
		return fmt.Errorf("a document with other fields than asked for: %+v", doc)
	}
	if len(doc.PCRs) != len(d.LockedPCRs) {
		return fmt.Errorf("a document with %d PCRs, and %d are locked", len(doc.PCRs), len(d.LockedPCRs))
	}
	for _, index := range d.LockedPCRs {
		pcr, err := s.DescribePCR(ctx, index)
		if err != nil {
			return err
		}
		if value := doc.PCRs[index]; !bytes.Equal(value, pcr.Value[:]) {
			return fmt.Errorf("PCR%d is %x in a document, and %v in the NSM", index, value, pcr.Value)
		}
	}
	return nil
}

func sequence(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// probeArgument has this program, started by the guest as another user, say
// whether it can use the NSM.
const probeArgument = "probe"

func probe() int {
	s, err := nsm.Open()
	var e *nsm.Error
	if errors.As(err, &e) {
		fmt.Println(strings.TrimSpace(string(e.Reason)))
		return 1
	}
	defer s.Close()
	if _, err := s.Describe(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
