# All of QEMU's devices that the end-to-end test needs: the machine that takes an
# enclave's image, and a PC that takes the NSM and vsock as PCI devices.
CONFIG_NITRO_ENCLAVE=y
CONFIG_Q35=y
CONFIG_VIRTIO_PCI=y
