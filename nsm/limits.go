package nsm

// Limits of the NSM and its Linux driver (drivers/misc/nsm.c and
// include/uapi/linux/nsm.h, and AWS's aws-nitro-enclaves-nsm-api), in bytes.
const (
	// MaxRequestSize is the longest request the driver passes on. It answers
	// EMSGSIZE to a longer one.
	MaxRequestSize = 0x1000

	// MaxResponseSize is the longest response the driver hands back.
	MaxResponseSize = 0x3000

	// MaxFieldSize is the longest user data, nonce or public key that the NSM
	// signs into an attestation document. AWS's text says 512 for the first
	// two; the hardware takes 1024 for each.
	MaxFieldSize = 1024
)

// maxRandomSize is what one GetRandom request gives at most, in bytes.
const maxRandomSize = 256

// seedSize is how much randomness SeedKernel takes from the NSM, in bytes: what one
// request gives. The kernel's pool holds 32 (drivers/char/random.c).
const seedSize = maxRandomSize

// maxInterruptedTries bounds how often a request that changes nothing is sent
// again after a signal interrupted it (EINTR).
const maxInterruptedTries = 8
