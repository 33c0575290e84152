// Package boot does what the first process of a Nitro Enclave has to do before the
// program's own work, for those who write their own init, and the part of it that
// every program in an enclave needs.
//
//	func main() {
//		if err := boot.Run(ctx, boot.Options{}); err != nil {
//			log.Fatal(err) // says which step failed, and what to do
//		}
//		…
//	}
//
// As process 1, whose end the kernel answers with a panic, print the error and restart
// the machine in place of log.Fatal: see end_linux.go and main.go in examples/enclave.
//
// [Run] takes these steps, in this order. The first two and the last are for process
// 1 only; elsewhere they are skipped.
//
//	mount      /dev, /proc, /sys, /run, /tmp, as far as they are not there
//	modules    loads Options.Modules, where the kernel has the NSM's driver as a module
//	loopback   brings up the interface lo, so that 127.0.0.1 works
//	entropy    seeds the kernel's generator from the NSM
//	clock      sets the clock to the hypervisor's, where there is one
//	heartbeat  tells nitro-cli that the enclave runs
//
// Each step looks first whether there is anything to do, so that Run may be called
// again, and may be called in an image of nitro-cli build-enclave. The init in such an
// image mounts, loads the driver and sends the heartbeat, and starts the program as
// another process; it leaves loopback, entropy and clock alone. Each step is a function
// of its own, too, here or in package nsm, for programs that need another order.
//
// Run stops at the first step that fails. The heartbeat comes last, so that nitro-cli
// reports an enclave that could not start instead of one that runs and does not work.
//
// # The clock
//
// Without help, an enclave's clock begins with what the kernel found at boot and then
// drifts, by seconds in a week. [SetClock] sets it once to the clock that the
// hypervisor offers (the kernel's ptp_kvm driver, CONFIG_PTP_1588_CLOCK_KVM; usually
// /dev/ptp0). A program that runs for long calls it from time to time.
//
// That time is the hypervisor's word, and nothing verifies it. In a Nitro Enclave the
// hypervisor is AWS's, which must be trusted anyway, and not the parent instance,
// which has no say in it. Under another hypervisor it is the host's. The clock decides
// whether certificates have expired and documents are fresh: never set it to a time
// that the parent tells, by NTP or otherwise.
//
// # What it does not do
//
// Run is no init. Process 1 has to go on: to wait for orphaned processes, and not to
// return, because the kernel panics when it ends. The image needs /dev/console, as the
// kernel's own initial file system has it, if standard output is to lead there.
//
// All of this is Linux's. On other systems Run fails with nsm.ReasonNoDevice, so that
// programs build and say what they miss.
package boot
