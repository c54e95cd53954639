#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/vm-test.sh [--binary FILE] [--suite NAME] [--accelerator auto|kvm|tcg] [--only appliance|wireguard|small]
       scripts/vm-test.sh --install | --prepare [--suite NAME]

Runs two scripts on two virtual machines with Debian, the binary and scripts/systemd/wontun@.service, joined by a network
of their own: nixos-test/test_script.py, the test of `nix flake check`, where there is no Nix; and
scripts/vm/wireguard_script.py, in which wontun meets the WireGuard of the machines' kernel.

  --binary FILE       a static wontun; scripts/build-static.sh makes one otherwise
  --suite NAME        the Debian release in the machines: bookworm (systemd 252, the oldest that the unit supports) unless
                      given
  --accelerator NAME  auto takes KVM if a kernel was seen to run on it, and emulates the processor otherwise
  --only NAME         one script: appliance is the former, wireguard the latter; small, which is run only so, is a
                      tunnel between two machines with one core, 60 MB beside the kernel's own, and no nf_tables
  --install           installs the packages, and no more
  --prepare           makes the machines' system as well, and no more

The machines' system is made once, in ${XDG_CACHE_HOME:-~/.cache}/wontun-vm, and anew when its recipe changes. Needs
root (uses sudo otherwise) and Debian's packages, which it installs with apt; x86-64 only.
END
}

binary='' suite=bookworm accelerator=auto only='' until=''
help_if_asked "$@"
while (($#)); do
    case $1 in
        --binary | --suite | --accelerator | --only)
            (($# >= 2)) || die "$1 needs a value: see --help"
            declare "${1#--}=$2"
            shift 2
            ;;
        --install | --prepare)
            until=${1#--}
            shift
            ;;
        *) die "unexpected argument '$1': see --help" ;;
    esac
done
[[ $(uname -m) == x86_64 ]] || die "this test knows x86-64 machines only, not $(uname -m)"
# It becomes part of a file's name.
[[ $suite =~ ^[a-z]+$ ]] || die "--suite takes the name of a Debian release, not '$suite'"
scripts=("$repo/nixos-test/test_script.py" "$repo/scripts/vm/wireguard_script.py")
case $only in
    '') ;;
    appliance) scripts=("${scripts[0]}") ;;
    wireguard) scripts=("${scripts[1]}") ;;
    small) ;;
    *) die "--only takes appliance, wireguard or small, not '$only'" ;;
esac
become_root
need qemu-system-x86_64:qemu-system-x86 debootstrap:debootstrap mke2fs:e2fsprogs debugfs:e2fsprogs python3:python3 \
    setpriv:util-linux flock:util-linux xz:xz-utils readelf:binutils
[[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || apt_install debian-archive-keyring
[[ $until != install ]] || exit 0

# The recipe is whatever make-root.sh runs or copies.
recipe=$(cd "$repo/scripts/vm" && find make-root.sh cpio.py guest -type f -exec sha256sum {} + | sort | sha256sum)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wontun-vm
root=$cache/$suite-${recipe:0:16}
mkdir -p "$cache"
# Two runs at the same time make one root.
exec {lock}>"$cache/lock"
flock "$lock"
if [[ ! -d $root ]]; then
    rm -rf "$cache/$suite"-*
    bash "$repo/scripts/vm/make-root.sh" "$root" "$suite" {lock}>&-
fi
flock --unlock "$lock"
[[ $until != prepare ]] || exit 0

if [[ -z $binary ]]; then
    bash "$repo/scripts/build-static.sh"
    binary=$repo/target/static/wontun
fi
[[ -f $binary ]] || die "$binary is no file: --binary takes a static wontun"
headers=$(readelf --program-headers --dynamic "$binary") || die "$binary is no ELF file: --binary takes a static wontun"
if grep -qE 'INTERP|\(NEEDED\)' <<<"$headers"; then
    die "$binary is not static, and the image in the test has nothing but it"
fi

if [[ $only == small ]]; then
    exec python3 -B "$repo/scripts/vm/small.py" --root "$root" --binary "$binary" --accelerator "$accelerator" {lock}>&-
fi
exec python3 -B "$repo/scripts/vm/run.py" --root "$root" --binary "$binary" --wontun-version "$(package_version)" \
    --accelerator "$accelerator" "${scripts[@]}" {lock}>&-
