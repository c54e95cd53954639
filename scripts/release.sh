#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/release/toolchain.sh
source "$(dirname "$0")/release/toolchain.sh"

usage() {
    cat <<'END'
Usage: scripts/release.sh VERSION [--sign KEY] [--output DIR] [--snapshot]

Builds the release VERSION from the last commit into DIR (dist): static binaries for x86_64 and aarch64, a .deb and an
.rpm for each, an image archive for each and one for both, the source with all crates, an SBOM (CycloneDX), the
versions of the tools used, and SHA256SUMS. VERSION must be that of Cargo.toml and of a section of CHANGELOG.md.

  --sign KEY    Signs SHA256SUMS with this SSH key (ssh-keygen -Y sign): a private key's file, or the public key's of
                one that the agent holds
  --output DIR  Writes there. The folder must be empty or not exist
  --snapshot    Builds although CHANGELOG.md has no section for VERSION: to try a commit, not to publish it

Two runs give the same files, in any folder and at any time. Files carry the commit's time; SOURCE_DATE_EPOCH replaces
it. Needs no root, but packages of Debian (on Debian and Ubuntu, root installs them), rustup, and the network: for the
pinned Rust and C compilers, unless they are there, and for the crates. What is built has no network.
END
}

version=
output=$repo/dist
key=
is_snapshot=false
help_if_asked "$@"
while (($#)); do
    case $1 in
        --sign | --output)
            (($# >= 2)) || die "$1 needs a value; see --help"
            if [[ $1 == --sign ]]; then key=$(realpath "$2"); else output=$(realpath -m "$2"); fi
            shift 2
            ;;
        --snapshot)
            is_snapshot=true
            shift
            ;;
        -*) die "unexpected option '$1'; see --help" ;;
        *)
            [[ -z $version ]] || die "unexpected argument '$1'; see --help"
            version=$1
            shift
            ;;
    esac
done

# --- checks ------------------------------------------------------------------------------------------------------

[[ -n $version ]] || die "which version? Cargo.toml has $(package_version): scripts/release.sh $(package_version)"
[[ $version == "$(package_version)" ]] ||
    die "the version asked for is $version, and Cargo.toml has $(package_version): set it there and commit"
need git:git
[[ -z $(git -C "$repo" status --porcelain) ]] ||
    die "there are changes that are not committed (git status shows them): a release is built from a commit"
$is_snapshot || grep -q "^## \[$version\]" "$repo/CHANGELOG.md" ||
    die "CHANGELOG.md has no section '## [$version]': move what is under 'Unreleased' there and commit"
[[ -z $(ls -A "$output" 2>/dev/null) ]] || die "$output is not empty: remove it, or name another folder with --output"
[[ -z $key || -r $key ]] || die "cannot read the key $key"

need "$for_rust" python3:python3 dpkg-deb:dpkg rpmbuild:rpm tar:tar xz:xz-utils gzip:gzip readelf:binutils
[[ -z $key ]] || need ssh-keygen:openssh-client
need_release_toolchain

# --- environment -------------------------------------------------------------------------------------------------

# What the user or the system has set must not change a byte.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET CFLAGS IPSEC_MB_LIB_DIR "${!WONTUN_@}" XZ_OPT XZ_DEFAULTS GZIP
export LC_ALL=C TZ=UTC PYTHONUTF8=1
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$repo" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022
WONTUN_MAINTAINER=$(git -C "$repo" log -1 --format='%an <%ae>')
export WONTUN_MAINTAINER
commit=$(git -C "$repo" rev-parse HEAD)
# For `wontun --version`: build.rs finds no repository where this builds.
WONTUN_REVISION=$(git -C "$repo" rev-parse --short=12 HEAD)
export WONTUN_REVISION

work=$(mktemp -d)
on_exit "rm -rf '$work'"
[[ $work != *[[:space:]]* ]] || die "$work has a space, which compilers' options cannot have: set TMPDIR to another folder"
parts=$work/dist
source=$work/wontun-$version
generated=$work/generated
mkdir -p "$parts" "$work/bin"
began=$SECONDS

# done_with NAME: prints what was made, its size and the time it took.
done_with() {
    say "    $1: $(stat -c %s "$parts/$1") bytes, $((SECONDS - began)) s"
    began=$SECONDS
}

# --- source ------------------------------------------------------------------------------------------------------

say "source of commit $commit with all crates"
git -C "$repo" archive --prefix="wontun-$version/" HEAD | tar -x -C "$work"
mkdir -p "$source/.cargo"
# Paths in the configuration are relative to the folder in which it runs.
(cd "$source" && cargo vendor --locked --versioned-dirs vendor 2>"$work/log") >>"$source/.cargo/config.toml" || {
    cat "$work/log" >&2
    die "cargo could not get the crates of Cargo.lock: see its messages above"
}
python3 -B "$source/scripts/release/trim_vendor.py" "$source/vendor"
# Modes of the archives that the registry serves differ from crate to crate.
chmod -R u=rwX,go=rX "$source"
tar --create --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --directory "$work" "wontun-$version" | xz -6 --threads=1 >"$parts/wontun-$version.tar.xz"
done_with "wontun-$version.tar.xz"

ipsec_mb=$(bash "$repo/scripts/ipsec-mb.sh")

# --- binaries ----------------------------------------------------------------------------------------------------

declare -A binaries
for arch in x86_64 aarch64; do
    say "binary for $arch"
    build_release_binary "$arch" "$source" "$work" "$ipsec_mb"
    binaries[$arch]=$parts/wontun-$version-linux-$arch
    install -m 755 "$work/target/$arch-unknown-linux-musl/release/wontun" "${binaries[$arch]}"
    if readelf --program-headers --dynamic "${binaries[$arch]}" | grep -E 'INTERP|\(NEEDED\)'; then
        die "the binary for $arch is not static: it asks for the above at start"
    fi
    readelf --file-header "${binaries[$arch]}" | grep -q 'Type: *DYN' ||
        die "the binary for $arch has a fixed address: a start file of another kind was linked (write_linker in toolchain.sh)"
    if grep -q --binary-files=text -F "$work" "${binaries[$arch]}"; then
        die "the binary for $arch has the path of the folder that it was built in, $work: another folder gives another file"
    fi
    done_with "wontun-$version-linux-$arch"
done

# --- manual pages, completions, inventory, images, packages -----------------------------------------------------------------------------------

release=$source/scripts/release
say "manual pages and completions"
mkdir -p "$generated/man" "$generated/completions"
in_release_toolchain "$source" "$work" cargo run --quiet --frozen --example man -- "$generated/man"
native=${binaries[$(uname -m)]}
"$native" completions bash >"$generated/completions/wontun.bash"
"$native" completions zsh >"$generated/completions/_wontun"
"$native" completions fish >"$generated/completions/wontun.fish"
say "SBOM and licences"
in_release_toolchain "$source" "$work" python3 -B "$release/sbom.py" --source "$source" --commit "$commit" \
    --rust "$rust_version" --ipsec-mb "$ipsec_mb" --sbom "$parts/wontun-$version.cdx.json" --licences "$generated/THIRD-PARTY"
done_with "wontun-$version.cdx.json"

say "images"
for arch in x86_64 aarch64; do
    image=wontun-$version-image-$(debian_architecture "$arch").tar
    python3 -B "$release/image.py" --version "$version" --output "$parts/$image" "$arch=${binaries[$arch]}"
    done_with "$image"
done
python3 -B "$release/image.py" --version "$version" --output "$parts/wontun-$version-image.tar" \
    "x86_64=${binaries[x86_64]}" "aarch64=${binaries[aarch64]}"
done_with "wontun-$version-image.tar"

say "packages"
for arch in x86_64 aarch64; do
    bash "$release/tree.sh" "$source" "${binaries[$arch]}" "$generated" "$work/tree-$arch"
    deb=wontun_$version-1_$(debian_architecture "$arch").deb
    bash "$release/deb.sh" "$source" "$work/tree-$arch" "$version" "$(debian_architecture "$arch")" "$parts/$deb"
    done_with "$deb"
    rpm=wontun-$version-1.$arch.rpm
    bash "$release/rpm.sh" "$source" "$work/tree-$arch" "$version" "$arch" "$parts/$rpm"
    done_with "$rpm"
done

# --- what it was made with, hashes, signature ----------------------------------------------------------------------

cat >"$parts/wontun-$version.buildinfo" <<END
commit: $commit
source-date-epoch: $SOURCE_DATE_EPOCH
rustc: $(RUSTUP_TOOLCHAIN=$rust_version rustc --version)
c-compiler: zig cc $zig_version
intel-ipsec-mb (x86_64): libipsec-mb-dev $(<"$ipsec_mb/version") of Debian
xz: $(xz --version | head -n 1)
tar: $(tar --version | head -n 1)
gzip: $(gzip --version | head -n 1)
dpkg-deb: $(dpkg-deb --version | head -n 1)
rpmbuild: $(rpmbuild --version)
END
(cd "$parts" && sha256sum -- *) >"$work/SHA256SUMS"
mv "$work/SHA256SUMS" "$parts/"
if [[ -n $key ]]; then
    ssh-keygen -q -Y sign -n file -f "$key" "$parts/SHA256SUMS"
fi
mkdir -p "$output"
cp -- "$parts"/* "$output/"
say "$output:"
cat "$output/SHA256SUMS"
[[ -n $key ]] || say "not signed: --sign KEY signs SHA256SUMS"
