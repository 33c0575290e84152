package nsm

import "context"

// seedSize is how much randomness SeedKernel takes from the NSM, in bytes: what one
// request gives. The kernel's pool holds 32 (drivers/char/random.c).
const seedSize = maxRandomSize

// SeedKernel puts randomness of the NSM into the Linux kernel's pool, has it credited
// (ioctl RNDADDENTROPY of random(4)) and has the kernel's generator seeded anew from
// the pool (RNDRESEEDCRNG, which came with Linux 4.17), so that from its return on
// getrandom(2), and with it crypto/rand, gives what nobody outside can know, and does
// not wait for other sources, of which an enclave has few. Call it at boot, before
// anything makes a key. Calling it again does no harm.
//
// Linux 6.8 and later with CONFIG_NSM takes randomness from the NSM by itself, at a time
// of its own; call this there, too. It needs root or CAP_SYS_ADMIN. On systems other than
// Linux it fails with [ReasonUnsupported] and errors.ErrUnsupported.
func (s *Session) SeedKernel(ctx context.Context) error {
	const op = "SeedKernel"
	seed := make([]byte, seedSize)
	defer clear(seed)
	if _, err := s.readRandom(ctx, op, seed); err != nil {
		return err
	}
	if err := creditKernel(seed); err != nil {
		return withOp(op, err)
	}
	return nil
}
