#!/usr/bin/env bash
# Makes the machine the end-to-end test boots: QEMU with its emulated Nitro
# Secure Module, firmware, a kernel with its modules, and the program that gives
# the guest a vsock device.
#
#	bash internal/e2e/machine.sh FOLDER
#
# All of it is Debian's: packages of trixie, and one of sid that trixie doesn't
# have. apt checks the signatures, in roots of its own, so the packages of this
# system are neither touched nor asked. QEMU is built from Debian's source
# package, since its binaries are built without libcbor and so without the NSM.
# The libraries are put beside the programs: the result runs on any Linux of this
# architecture, and needs no root.
#
# Exit code 77: it can't be had here, and the last line of stderr says why.
set -euo pipefail

to=$1
suite=trixie
sid=sid
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
configuration=$(cd "$(dirname "$0")" && pwd)/nsm.mak

unavailable() {
	echo "e2e: no machine to boot: $*" >&2
	exit 77
}

[ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ] || unavailable "it is made on Linux on x86-64, and this is $(uname -sm)"
[ "$(id -u)" = 0 ] || unavailable "building QEMU in a chroot needs root; run this once as root with the same KEYVOUCH_E2E_CACHE, then anyone may use it"
for program in apt-get apt-config dpkg-deb chroot unshare xz; do
	command -v "$program" >/dev/null || unavailable "there is no $program; it is made from Debian packages"
done
unshare --mount true 2>/dev/null || unavailable "this container may not mount; start it with CAP_SYS_ADMIN, or bring a cache"

mkdir -p "$(dirname "$to")"
work=$(mktemp -d "$(dirname "$to")/making.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
exec 3>"$work/log"
started=$SECONDS
begin() {
	step=$* since=$SECONDS
	echo "e2e: $step ..."
}
end() { echo "e2e: $step: $((SECONDS - since)) s"; }
quietly() {
	"$@" >&3 2>&1 || {
		tail -n 30 "$work/log" >&2
		echo "e2e: failed: $*" >&2
		return 1
	}
}

# The archive: that of this system if it is Debian's, with the proxy and the
# rules for dates its owner set.
uri=$(awk '/^URIs:.*debian\/?$/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
uri=${uri:-http://deb.debian.org/debian}
if [ ! -e $keyring ]; then # on Ubuntu its own archive vouches for Debian's keys
	(cd "$work" && quietly apt-get download debian-archive-keyring && dpkg-deb -x debian-archive-keyring_*.deb keyring) ||
		unavailable "there is no $keyring; install debian-archive-keyring"
	keyring=$work/keyring$keyring
fi

# aptroot SUITE TYPES makes a private root for apt: state, cache and sources.
aptroot() {
	local root=$work/apt-$1
	mkdir -p "$root"/etc/apt/{apt.conf.d,preferences.d,sources.list.d,trusted.gpg.d} \
		"$root"/var/lib/apt/lists/partial "$root"/var/cache/apt/archives/partial "$root"/var/lib/dpkg
	: >"$root/var/lib/dpkg/status"
	printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' "$2" "$uri" "$1" "$keyring" >"$root/etc/apt/sources.list.d/debian.sources"
	{
		printf 'Dir "%s";\nDir::State "%s/var/lib/apt";\nDir::State::status "%s/var/lib/dpkg/status";\n' "$root" "$root" "$root"
		printf 'Dir::Cache "%s/var/cache/apt";\nDir::Etc "%s/etc/apt";\n' "$root" "$root"
		printf 'APT::Architecture "amd64";\nAPT::Architectures "amd64";\nAPT::Install-Recommends "false";\n'
		printf 'APT::Sandbox::User "root";\nAcquire::Retries "3";\nAcquire::Languages "none";\n'
		apt-config dump | grep -E '^Acquire::(http|https|Check-)' || true
	} >"$root/apt.conf"
	APT_CONFIG=$root/apt.conf quietly apt-get update || unavailable "$uri gives no index of $1 that its signature and date allow; is there a network?"
}
aptin() {
	local suite=$1
	shift
	APT_CONFIG=$work/apt-$suite/apt.conf "$@"
}

# unpack SUITE FOLDER PACKAGE... fetches packages and unpacks them, no scripts run.
unpack() {
	local suite=$1 into=$2 debs
	shift 2
	debs=$(mktemp -d "$work/debs.XXXXXX")
	(cd "$debs" && quietly aptin "$suite" apt-get download "$@") || unavailable "$suite has no $*"
	mkdir -p "$into"
	for deb in "$debs"/*.deb; do
		dpkg-deb -x "$deb" "$into"
		dpkg-deb -W --showformat="\${Package} \${Version} $suite\n" "$deb" >>"$work/new/versions"
	done
}

begin "indexes of Debian $suite and $sid"
mkdir -p "$work/new"
aptroot $suite "deb deb-src"
aptroot $sid deb
end

begin "kernel, firmware, vhost-device-vsock"
kernel=$(aptin $suite apt-cache depends --important linux-image-cloud-amd64 | awk '/Depends: linux-image-/ {print $2; exit}')
[ -n "$kernel" ] || unavailable "$suite has no linux-image-cloud-amd64"
unpack $suite "$work/kernel" "$kernel"
unpack $suite "$work/firmware" seabios qemu-system-data
unpack $sid "$work/vhost" vhost-device-vsock libc6 libgcc-s1
unpack $suite "$work/debootstrap" debootstrap

mkdir -p "$work/new/kernel/modules" "$work/new/firmware" "$work/new/vhost/lib"
cp "$work"/kernel/boot/vmlinuz-* "$work/new/kernel/vmlinuz"
for module in net/vmw_vsock/{vsock,vmw_vsock_virtio_transport_common,vmw_vsock_virtio_transport,vsock_loopback} drivers/{misc/nsm,virtio/virtio_mmio}; do
	xz -dc "$work"/kernel/usr/lib/modules/*/kernel/$module.ko.xz >"$work/new/kernel/modules/$(basename $module).ko" 2>/dev/null ||
		xz -dc "$work"/kernel/lib/modules/*/kernel/$module.ko.xz >"$work/new/kernel/modules/$(basename $module).ko"
done
cp "$work"/kernel/boot/config-* "$work/new/kernel/config"
cp -L "$work"/firmware/usr/share/seabios/{bios-256k.bin,bios-microvm.bin} "$work/new/firmware/"
cp -L "$work"/firmware/usr/share/qemu/{linuxboot_dma.bin,kvmvapic.bin} "$work/new/firmware/" 2>/dev/null ||
	cp -L "$(find "$work/firmware" -name linuxboot_dma.bin | head -1)" "$work/new/firmware/"
cp "$work/vhost/usr/bin/vhost-device-vsock" "$work/new/vhost/"
find "$work/vhost" \( -name 'ld-linux-x86-64.so.2' -o -name 'libc.so.6' -o -name 'libm.so.6' -o -name 'libgcc_s.so.1' \) \
	-type f -exec cp -L {} "$work/new/vhost/lib/" \;
end

begin "a chroot of $suite with a compiler"
root=$work/chroot
DEBOOTSTRAP_DIR=$work/debootstrap/usr/share/debootstrap quietly unshare --mount --propagation private \
	"$work/debootstrap/usr/sbin/debootstrap" --variant=minbase --keyring="$keyring" $suite "$root" "$uri" ||
	unavailable "no chroot of $suite; is there a network?"
cp /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
aptin $suite apt-config dump | grep -E '^Acquire::' >"$root/etc/apt/apt.conf.d/90keyvouch" || true
# inside COMMAND runs a command in the chroot; what it mounts goes away with it.
inside() {
	quietly nice -n 19 unshare --mount --propagation private bash -c '
		mount -t proc proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"' "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
inside apt-get install -y --no-install-recommends gcc libc6-dev make ninja-build meson pkg-config python3 python3-venv bison flex \
	libglib2.0-dev libcbor-dev libgnutls28-dev libfdt-dev zlib1g-dev ||
	unavailable "$suite has not all that QEMU is built with; is there a network?"
end

begin "source of QEMU"
mkdir "$work/source"
(cd "$work/source" && quietly aptin $suite apt-get source --download-only qemu) || unavailable "$suite has no source of qemu"
mkdir -p "$root/build/qemu"
tar -xf "$work"/source/qemu_*.orig.tar.xz --strip-components=1 -C "$root/build/qemu"
sed -i '/^pycotap/d' "$root/build/qemu/pythondeps.toml" # for QEMU's own tests, and not packaged
cp "$configuration" "$root/build/qemu/configs/devices/x86_64-softmmu/nsm.mak"
awk '/^Version:/ {print "qemu", $2, "trixie, built from source"; exit}' "$work"/source/qemu_*.dsc >>"$work/new/versions"
end

begin "build of QEMU with libcbor (some minutes)"
inside sh -euc 'mkdir /build/out; cd /build/out
	../qemu/configure --target-list=x86_64-softmmu --without-default-features --without-default-devices \
		--with-devices-x86_64=nsm --enable-system --enable-tcg --enable-libcbor --enable-gnutls --enable-vhost-user \
		--enable-fdt=system --disable-kvm --disable-install-blobs --disable-docs --disable-tools --disable-guest-agent \
		--disable-user --disable-debug-info --enable-strip --disable-download
	ninja -j"$(nproc)" qemu-system-x86_64
	mkdir -p /build/bundle/lib
	strip -o /build/bundle/qemu-system-x86_64 qemu-system-x86_64
	ldd qemu-system-x86_64 | awk "/=> \// {print \$3} /^\t\/lib64\/ld-linux/ {print \$1}" | xargs cp -L -t /build/bundle/lib'
cp -r "$root/build/bundle" "$work/new/qemu"
end

qemu() { "$work/new/qemu/lib/ld-linux-x86-64.so.2" --library-path "$work/new/qemu/lib" "$work/new/qemu/qemu-system-x86_64" "$@"; }
for wanted in virtio-nsm-pci vhost-user-vsock-pci; do
	qemu -device help 2>&1 | grep -q "\"$wanted\"" || { echo "e2e: the QEMU that was built has no $wanted" >&2; exit 1; }
done
qemu -M help | grep -q '^nitro-enclave' || { echo "e2e: the QEMU that was built has no nitro-enclave machine" >&2; exit 1; }
chmod -R a+rX "$work/new"
rm -rf "$to"
mv "$work/new" "$to"
echo "e2e: made in $((SECONDS - started)) s: $(du -sh "$to" | cut -f1) in $to"
