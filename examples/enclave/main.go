// Enclave is a whole application for a Nitro Enclave, to copy. It does the boot duties,
// gets its secret from KMS and serves attested HTTPS. Without the secret it does not
// serve. It runs as process 1 of an image of its own, or under the init of nitro-cli's
// images. README.md in this folder shows how to build, deploy and call it; package
// service is the application.
//
// It takes no arguments: /config.json is part of the image, so the PCRs cover it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keyvouch/keyvouch/examples/enclave/service"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/boot"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

const configFile = "/config.json"

func main() {
	// Standard output is the console, which exists only in debug mode. Neither the
	// secret nor requests are written to it.
	logger := slog.New(slog.NewTextHandler(os.Stdout, nil))
	err := run(logger)
	if err != nil {
		logger.Error("the enclave ends", "error", err)
	}
	if os.Getpid() == 1 {
		endMachine() // the kernel would panic if process 1 returned
	}
	if err != nil {
		os.Exit(1)
	}
}

func run(logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := readConfig()
	if err != nil {
		return err
	}
	// The image program names modules by number, in the order to load them.
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	duties := boot.Options{Modules: modules, Logger: logger}
	if config.Heartbeat != "" {
		if duties.Heartbeat, err = vsockproxy.ParseEndpoint(config.Heartbeat); err != nil {
			return err
		}
	}
	if err := boot.Run(ctx, duties); err != nil {
		return err
	}
	session, err := nsm.Open()
	if err != nil {
		return err
	}
	defer session.Close()
	if err := logMeasurement(ctx, logger, session); err != nil {
		return err
	}
	go keepTime(ctx, logger)
	s := service.Service{Config: config, Session: session, Logger: logger}
	return s.Run(ctx)
}

func readConfig() (service.Config, error) {
	f, err := os.Open(configFile)
	if err != nil {
		return service.Config{}, err
	}
	defer f.Close()
	return service.ReadConfig(f)
}

// logMeasurement logs the PCRs that KMS compares with the key policy.
func logMeasurement(ctx context.Context, logger *slog.Logger, session *nsm.Session) error {
	for index := range 3 {
		pcr, err := session.DescribePCR(ctx, index)
		if err != nil {
			return err
		}
		logger.Info("measured", fmt.Sprintf("PCR%d", index), pcr.Value.String())
	}
	return nil
}

// keepTime sets the clock to the hypervisor's every hour: an enclave's clock drifts, and
// certificates and signatures depend on it.
func keepTime(ctx context.Context, logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
		if _, err := boot.SetClock(); err != nil {
			logger.Warn("the clock stays as it is", "error", err)
		}
	}
}
