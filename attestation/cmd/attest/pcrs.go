package main

import (
	"fmt"

	"github.com/keyvouch/keyvouch/attestation"
)

// pcrNames are short forms of what the AWS Nitro Enclaves user guide
// ("Cryptographic attestation") and the EC2 user guide ("NitroTPM") say.
var pcrNames = map[attestation.Platform]map[int]string{
	attestation.PlatformEnclave: {
		attestation.PCRImage:       "image",
		attestation.PCRKernel:      "kernel",
		attestation.PCRApplication: "application",
		attestation.PCRRole:        "parent's role",
		attestation.PCRInstance:    "parent",
		attestation.PCRSigner:      "image signer",
	},
	attestation.PlatformNitroTPM: {
		4:  "boot manager",
		7:  "secure boot",
		12: "command line",
	},
}

// writePCRs writes the registers in order, with runs of zero ones in one line.
func writePCRs(t *text, c *attestation.Claims) {
	for i := 0; i < attestation.MaxPCRs; i++ {
		value, ok := c.PCRs[i]
		if !ok {
			continue
		}
		if !value.IsZero() {
			t.line(fmt.Sprintf("PCR%d", i), "%-13s %s", pcrNames[c.Platform][i], value)
			continue
		}
		last := i
		for next, ok := c.PCRs[last+1]; ok && next.IsZero(); next, ok = c.PCRs[last+1] {
			last++
		}
		name := fmt.Sprintf("PCR%d", i)
		if last > i {
			name += fmt.Sprintf("-%d", last)
		}
		t.line(name, "all zero")
		i = last
	}
}
