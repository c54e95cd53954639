# shellcheck shell=bash
# Sourced by scripts/release.sh: the compilers of a release, which are pinned, and how they are called.

# Rust's standard library, musl and the linker for both architectures are of this toolchain.
rust_version=1.95.0
# For the C files of ring and tun-tap: one compiler with musl's headers for both architectures, which the Python package
# index has, so that its hash can be compared.
zig_version=0.15.2
zig_hashes=(806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130
    edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230)

debian_architecture() {
    case $1 in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) die "no release for the architecture $1" ;;
    esac
}

# Installs what is missing of the toolchain.
need_release_toolchain() {
    local targets=() arch folder
    command -v rustup >/dev/null ||
        die "rustup is missing, which gets Rust $rust_version and its library for musl: install it with https://rustup.rs" \
            "(Debian 13, Ubuntu 24.04 and newer: apt-get install rustup)"
    rustup run "$rust_version" rustc --version >/dev/null 2>&1 ||
        rustup toolchain install "$rust_version" --profile minimal --no-self-update
    for arch in x86_64 aarch64; do
        folder=$(rustup run "$rust_version" rustc --print target-libdir --target "$arch-unknown-linux-musl")
        [[ -d $folder ]] || targets+=("$arch-unknown-linux-musl")
    done
    ((${#targets[@]} == 0)) || rustup target add --toolchain "$rust_version" "${targets[@]}"
    need_zig
}

# Sets `zig` to the path of the C compiler, which it installs once.
need_zig() {
    local folder=${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/zig-$zig_version
    zig=$folder/ziglang/zig
    [[ $("$zig" version 2>/dev/null) != "$zig_version" ]] || return 0
    need python3:python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_root_for python3-venv
    say "installing zig $zig_version into $folder"
    rm -rf "$folder" "$folder.venv"
    python3 -m venv "$folder.venv"
    printf 'ziglang==%s%s\n' "$zig_version" "$(printf ' --hash=sha256:%s' "${zig_hashes[@]}")" |
        "$folder.venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --target "$folder" --requirement /dev/stdin
    rm -rf "$folder.venv"
}

need_root_for() {
    ((EUID == 0)) || die "$1 is missing: install it with 'apt-get install $1' as root on Debian or Ubuntu"
    apt_install "$1"
}

# write_compiler ARCHITECTURE FOLDER: writes cc-ARCHITECTURE and ar-ARCHITECTURE there. zig has its own names for targets.
write_compiler() {
    local arch=$1 folder=$2
    cat >"$folder/cc-$arch" <<END
#!/bin/bash
arguments=()
for argument; do [[ \$argument == --target=* ]] || arguments+=("\$argument"); done
exec '$zig' cc -target $arch-linux-musl -fno-sanitize=all "\${arguments[@]}"
END
    printf '#!/bin/sh\nexec %q ar "$@"\n' "$zig" >"$folder/ar-$arch"
    chmod 755 "$folder/cc-$arch" "$folder/ar-$arch"
}

# write_linker FOLDER: writes ld-aarch64 there. rustc links static programs at a fixed address for that target, although its
# library can be anywhere: the start files for a position-independent program (static-pie) are beside the others, and are
# taken instead, so that the kernel chooses the address (ASLR), as on x86_64.
write_linker() {
    local sysroot host
    sysroot=$(RUSTUP_TOOLCHAIN=$rust_version rustc --print sysroot)
    host=$(RUSTUP_TOOLCHAIN=$rust_version rustc -vV | sed -n 's/^host: //p')
    cat >"$1/ld-aarch64" <<END
#!/bin/bash
arguments=()
for argument; do
    case \$argument in
        */self-contained/crt1.o) argument=\${argument%/*}/rcrt1.o ;;
        */self-contained/crtbegin.o) argument=\${argument%/*}/crtbeginS.o ;;
        */self-contained/crtend.o) argument=\${argument%/*}/crtendS.o ;;
    esac
    arguments+=("\$argument")
done
exec '$sysroot/lib/rustlib/$host/bin/rust-lld' "\${arguments[@]}" -pie --no-dynamic-linker -z text
END
    chmod 755 "$1/ld-aarch64"
}

# in_release_toolchain SOURCE WORK COMMAND...: runs it in SOURCE with the pinned toolchain, and without the user's settings
# of cargo, without a network (cargo takes the crates from SOURCE/vendor), and with paths that do not show in what it makes.
in_release_toolchain() {
    local source=$1 work=$2 arch upper sysroot flags variables=()
    shift 2
    sysroot=$(RUSTUP_TOOLCHAIN=$rust_version rustc --print sysroot)
    # The second is there if the component rust-src is: rustc then finds the library's files again.
    flags="--remap-path-prefix=$work=/build --remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rust"
    write_linker "$work/bin"
    for arch in x86_64 aarch64; do
        upper=${arch^^}_UNKNOWN_LINUX_MUSL
        write_compiler "$arch" "$work/bin"
        variables+=("CC_${upper,,}=$work/bin/cc-$arch" "AR_${upper,,}=$work/bin/ar-$arch"
            "CFLAGS_${upper,,}=-ffile-prefix-map=$work=/build"
            "CARGO_TARGET_${upper}_RUSTFLAGS=$flags -C target-feature=+crt-static -C linker-flavor=ld.lld")
    done
    variables+=(CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER="$work/bin/ld-aarch64")
    (cd "$source" && env "${variables[@]}" RUSTUP_TOOLCHAIN="$rust_version" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" \
        CARGO_HOME="$work/cargo" CARGO_TARGET_DIR="$work/target" CARGO_INCREMENTAL=0 CARGO_NET_OFFLINE=true \
        ZIG_GLOBAL_CACHE_DIR="$work/zig" ZIG_LOCAL_CACHE_DIR="$work/zig" "$@")
}

# build_release_binary ARCHITECTURE SOURCE WORK LIBRARY: the last is the folder of Intel's cipher, which x86_64 has.
build_release_binary() {
    local quiet=() features=()
    [[ -t 2 ]] || quiet=(--quiet)
    [[ $1 != x86_64 ]] || features=(--features ipsec-mb)
    IPSEC_MB_LIB_DIR=$4 in_release_toolchain "$2" "$3" cargo build "${quiet[@]}" --release --frozen --bin wontun \
        "${features[@]}" --target "$1-unknown-linux-musl"
}
