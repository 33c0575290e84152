//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// serve is our proxy, as small as a program with it can be.
func serve(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("proxybench serve", flag.ContinueOnError)
	profile := flags.String("cpuprofile", "", "write a CPU profile to this `file`; the last process to end overwrites it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return errors.New("serve takes an endpoint to listen on and a target")
	}
	if *profile != "" {
		file, err := os.Create(*profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer func() {
			pprof.StopCPUProfile()
			_ = file.Close()
		}()
	}
	endpoint, err := vsockproxy.ParseEndpoint(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("the endpoint: %w", err)
	}
	target := flags.Arg(1)
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		return err
	}
	p := &vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow, MaxConns: 3000}
	return p.Serve(ctx, listener)
}
