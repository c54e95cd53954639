#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"

usage() {
    cat <<'END'
Usage: scripts/vm/make-root.sh FOLDER [SUITE]

Makes what the virtual machines of scripts/vm-test.sh boot, out of Debian's packages: FOLDER/kernel, FOLDER/initramfs and
FOLDER/root.ext4, a small system with all modules of Debian's cloud kernel, so that any test can use them. SUITE is
Debian's name of the release, bookworm unless given. Nothing of wontun is in it: that comes with each start.
END
}

help_if_asked "$@"
(($# == 1 || $# == 2)) || die "expected a folder: see --help"
((EUID == 0)) || die "this needs root: debootstrap makes a system as root"
folder=$1
suite=${2:-bookworm}
programs=systemd-sysv,udev,kmod,iproute2,netcat-openbsd,curl,iputils-ping,busybox-static,wireguard-tools,iperf3,nftables
# What the initramfs needs to reach its disk; the machine loads everything else itself.
modules=(virtio_pci virtio_blk ext4)

# Beside the result, so that finishing is a rename; removed with whatever goes wrong.
work=$(mktemp -d "$folder.making.XXXXXX")
# shellcheck disable=SC2064 # the name is known now
on_exit "rm -rf '$work'"
root=$work/root

say "a root by debootstrap ($suite): some minutes, the first time only"
mkdir "$work/result"
debootstrap --variant=minbase --include="$programs" "$suite" "$root" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    die "debootstrap could not make a Debian $suite: its last lines are above"
}

# The kernel's package is unpacked, not installed: it would bring the tools that make an initramfs, and use them.
kernel_package=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
[[ -n $kernel_package ]] || die "Debian $suite has no linux-image-cloud-amd64"
(cd "$root" && chroot . apt-get -qq download "$kernel_package") >>"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    die "apt-get could not download $kernel_package: see above"
}
dpkg-deb --extract "$root/$kernel_package"_*.deb "$work/kernel"
cp -a "$work/kernel/boot/." "$root/boot/"
# Debian 12 has the modules in /lib, Debian 13 in /usr/lib; in the root they are one.
for place in "$work"/kernel/{lib,usr/lib}/modules; do
    [[ ! -d $place ]] || cp -a "$place" "$root/usr/lib/"
done
release=$(ls "$root/usr/lib/modules")
chroot "$root" depmod "$release"
cp "$root/boot/vmlinuz-$release" "$work/result/kernel"

# The initramfs: busybox, the few modules in the order in which they load, and one script.
initramfs=$work/initramfs
mkdir -p "$initramfs"/{bin,dev,proc,sys,root,modules}
cp "$root/bin/busybox" "$initramfs/bin/"
cp "$repo/scripts/vm/guest/init" "$initramfs/init"
number=100
while read -r module; do
    name=$(basename "$module")
    # Debian 13 compresses modules; insmod takes them as they are only where the kernel can unpack them.
    case $name in
        *.xz) xz --decompress --stdout "$root/$module" >"$initramfs/modules/$number-${name%.xz}" ;;
        *) cp "$root/$module" "$initramfs/modules/$number-$name" ;;
    esac
    number=$((number + 1))
done < <(chroot "$root" modprobe --set-version "$release" --show-depends --all "${modules[@]}" |
    sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++')
python3 "$repo/scripts/vm/cpio.py" "$initramfs" >"$work/result/initramfs"

# The system: a root shell on the second console for the runner, the network card's address, nothing that waits.
cp -a "$repo/scripts/vm/guest/units/." "$root/etc/systemd/system/"
wants=$root/etc/systemd/system/multi-user.target.wants
mkdir -p "$wants"
ln -s ../vm-shell.service ../vm-lan.service "$wants/"
ln -s /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
for unit in serial-getty@hvc0.service serial-getty@ttyS0.service getty@tty1.service getty-static.service apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
echo '/dev/vda / ext4 rw,noatime 0 1' >"$root/etc/fstab"
rm -rf "$root"/*.deb "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/* \
    "${root:?}"/boot/*

truncate -s 1G "$work/result/root.ext4"
mke2fs -q -t ext4 -E lazy_itable_init=1 -d "$root" "$work/result/root.ext4"
mv -T "$work/result" "$folder"
say "the root is made: $folder"
