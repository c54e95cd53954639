#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/nix-host-build.sh --nixpkgs PATH [OPTION...] [ATTRIBUTE...]

Builds the flake with a real Nix and a nixpkgs tree that is at hand, where Nix's binary cache and
the sources of nixpkgs' packages are out of reach. Nix's sandbox, nixpkgs' builders and the
project's Nix files are as always. The programs that they run (bash, gcc, rustc, jq, …) and musl are
Debian's, so hashes differ from those of an ordinary `nix build`. docs/src/development/nix.md lists
what such a build proves.

ATTRIBUTE is one of the flake's, such as image or checks.x86_64-linux.tests; without one all
packages (with Intel's cipher if the tree has its library) and all checks but vm and nix-fmt.
Links to the results are in FOLDER/results.

  --nixpkgs PATH     a nixpkgs tree: a folder, or a git repository whose HEAD has one
  --commit REVISION  what is built, HEAD unless given; changes that are not committed are left out
  --root FOLDER      where Debian and Nix's store are kept; ${XDG_CACHE_HOME:-~/.cache}/wontun-nix
                     unless given
  --cores NUMBER     processors for each build; all unless given
  --twice            builds the packages once more, of a clone in another folder, with one core and
                     a clock that is 400 days ahead, and fails if a bit differs

Needs root (uses sudo otherwise), x86-64, Debian's archive, the crates in Cargo.lock and 6 GB. On
Debian and Ubuntu it installs debootstrap with apt. The first run makes FOLDER, which takes some
minutes; remove it when it is no longer needed.
END
}

nixpkgs='' commit=HEAD root='' cores=$(nproc) twice='' attributes=()
help_if_asked "$@"
while (($#)); do
    case $1 in
        --nixpkgs | --commit | --root | --cores)
            (($# >= 2)) || die "$1 needs a value: see --help"
            declare "${1#--}=$2"
            shift
            ;;
        --twice) twice=yes ;;
        -*) die "unexpected argument '$1': see --help" ;;
        *) attributes+=("$1") ;;
    esac
    shift
done
[[ $(uname -m) == x86_64 ]] || die "this knows x86-64 machines only, not $(uname -m)"
[[ -n $nixpkgs ]] || die "no nixpkgs tree: name a folder or a git repository with --nixpkgs"
[[ -d $nixpkgs ]] || die "--nixpkgs: there is no folder $nixpkgs"
[[ $cores =~ ^[1-9][0-9]*$ ]] || die "--cores takes a number above 0, not '$cores'"
become_root
need debootstrap:debootstrap git:git unshare:util-linux tar:tar
need_rust
nixpkgs=$(realpath "$nixpkgs")
root=$(realpath -m "${root:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/wontun-nix}")
revision=$(as_builder git rev-parse --verify --quiet "$commit^{commit}") || die "--commit: there is no commit '$commit'"
mkdir -p "$root"
# The results of two runs at the same time would be mixed.
exec {lock}>"$root.lock"
flock --nonblock "$lock" || die "another run uses $root: wait for it, or choose another folder with --root"

# --- the folder ------------------------------------------------------------------------------------------------

# Nix 2.18 or newer and rustc 1.89 or newer are in no release of Debian before 14.
suite=sid
# Nix; what stdenv and the functions of nixpkgs run; the toolchains.
packages=(nix-bin git ca-certificates
    binutils bzip2 cmake curl diffutils fakeroot file flake8 gawk jq make moreutils patch patchelf perl pigz python3 rsync
    xutils-dev xz-utils zstd
    cargo rustc rust-src rust-clippy rustfmt lld gcc g++ libc6-dev linux-libc-dev musl-dev gcc-aarch64-linux-gnu
    libc6-dev-arm64-cross)

if [[ ! -e $root/etc/debian_version ]]; then
    say "Debian $suite by debootstrap, in $root"
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" >"$root.log" 2>&1 || {
        tail -n 20 "$root.log" >&2
        rm -rf "$root"
        die "debootstrap could not make a Debian $suite: its last lines are above"
    }
fi
# apt and git in it reach what they reach here.
cp --dereference --remove-destination /etc/resolv.conf /etc/hosts "$root/etc/"
[[ ! -e /etc/ssl/certs/ca-certificates.crt ]] || {
    mkdir -p "$root/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

# What follows runs in the folder, as its only root: Nix's sandbox calls pivot_root, so that chroot
# is not enough.
enter() {
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    cd "$1"
    mkdir -p outside
    pivot_root . outside
    umount --lazy /outside
    cd /
    shift
    export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
    "$@"
}

# in_root FUNCTION ARGUMENT...: runs a function of this script there.
in_root() {
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount --propagation private --pid --fork --kill-child bash -euo pipefail -c \
        "$(declare -f enter say die "$1"); "'root=$1; shift; enter "$root" "$@"' "$(basename "$0")" "$root" "$@"
}

install_packages() {
    local group=nixbld apt
    # The lists of a mirror that stands still are signed, but expire. Nothing runs these packages
    # but this script.
    apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Check-Valid-Until=false)
    "${apt[@]}" update
    "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
    # Of another architecture only the files of one package, which nothing is to run.
    dpkg --add-architecture arm64
    "${apt[@]}" update
    cd /tmp
    "${apt[@]}" download musl-dev:arm64
    dpkg-deb --extract musl-dev_*_arm64.deb /
    getent group "$group" >/dev/null || groupadd --system "$group"
    # Nix ends all processes of this user, hence a number that no user here has.
    id nixbld1 >/dev/null 2>&1 ||
        useradd --system --uid 30001 --gid "$group" --groups "$group" --home-dir /var/empty --shell /usr/sbin/nologin nixbld1
    mkdir -p /nix/store /nix/var/nix
    chown "root:$group" /nix/store
    chmod 1775 /nix/store
}

# Debian has no standard library of Rust's for musl: it is compiled from Debian's source.
# standard_library CPU
standard_library() {
    local triple=$1-unknown-linux-musl library out gcc
    library=$(realpath /usr/lib/rustlib/src/rust/library)
    out=/host/std/$triple/lib
    gcc=$(dirname "$("$1-linux-gnu-gcc" -print-libgcc-file-name)")
    rm -rf /tmp/std
    mkdir -p /tmp/std/src "$out/self-contained"
    cd /tmp/std
    printf '[package]\nname = "nothing"\nversion = "0.0.0"\nedition = "2024"\n[profile.release]\ncodegen-units = 1\n' >Cargo.toml
    : >src/lib.rs
    # With bitcode, as upstream's: wontun is optimised when it is linked.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-C target-feature=+crt-static -C embed-bitcode=yes --remap-path-prefix=$library=/rustc/library" \
        cargo build --quiet --release --offline --target "$triple" -Zbuild-std=std,panic_unwind,panic_abort,proc_macro,test \
        --config 'source.crates-io.replace-with="vendored"' --config "source.vendored.directory=\"$library/vendor\""
    rm -f "target/$triple/release/deps/libnothing"*
    cp "target/$triple/release/deps/"*.rlib "$out/"
    # What rustc links a static program with.
    cp -L "/usr/lib/$1-linux-musl/"{crt1,crti,crtn,Scrt1,rcrt1}.o "/usr/lib/$1-linux-musl/libc.a" "$out/self-contained/"
    cp -L "$gcc"/crt{begin,beginS,beginT,end,endS}.o "$out/self-contained/"
    # The unwinder is gcc's. It is made for glibc, but asks only for _dl_find_object of what musl
    # does not have.
    mkdir unwinder
    cd unwinder
    "$1-linux-gnu-gcc" -O2 -fPIC -nostdinc -isystem "/usr/include/$1-linux-musl" -isystem "$gcc/include" -x c -c -o find_object.o - \
        </host/find_object.c
    ar x "$gcc/libgcc_eh.a"
    ar rcsD "$out/self-contained/libunwind.a" ./*.o
}

export NIX_CONFIG="experimental-features = nix-command flakes
sandbox = true
sandbox-fallback = false
sandbox-paths = /bin /usr /lib /lib64 /etc/alternatives
build-users-group = nixbld
substituters =
flake-registry =
max-jobs = 1
cores = $cores
fsync-metadata = false
warn-dirty = false"

# to_store FOLDER: adds a folder to the store, prints its path, and removes the folder.
to_store() {
    nix store add-path "$1" --name source
    rm -rf "$1"
}

recipe=$(printf '%s\n' "${packages[@]}" "$(declare -f install_packages standard_library)" | cat - "$repo/nix/host/find_object.c" | sha256sum)
if [[ $(cat "$root/host/recipe" 2>/dev/null) != "$recipe" ]]; then
    rm -rf "$root/host"
    mkdir "$root/host"
    cp "$repo/nix/host/find_object.c" "$root/host/"
    say "Nix and the toolchains from Debian's packages"
    in_root install_packages "${packages[@]}" || die "the packages could not be installed in $root: see above"
    for cpu in x86_64 aarch64; do
        say "Rust's standard library for musl on $cpu"
        in_root standard_library "$cpu" || die "Rust's standard library could not be compiled: see above"
    done
    chroot "$root" rustc --version | cut -d ' ' -f 2 >"$root/host/std/version"
    in_root to_store /host/std >"$root/host/std-path" || die "the library could not be added to the store: see above"
    printf '%s\n' "$recipe" >"$root/host/recipe"
fi

# --- what is built ---------------------------------------------------------------------------------------------

# The tree as git has it, or a copy. A clone that is not complete does, as long as no derivation
# needs what it lacks.
if as_builder git -C "$nixpkgs" rev-parse --quiet --verify HEAD >/dev/null 2>&1; then
    tree_revision=$(as_builder git -C "$nixpkgs" rev-parse HEAD)
else
    tree_revision=''
fi
if [[ -z $tree_revision || $(cat "$root/host/tree-revision" 2>/dev/null) != "$tree_revision" ]]; then
    tree=$root/host/tree
    rm -rf "$tree" "$root"/host/tree-{revision,path}
    if [[ -n $tree_revision ]]; then
        mkdir "$tree"
        export GIT_INDEX_FILE=$root/host/index
        git -c safe.directory='*' -C "$nixpkgs" read-tree HEAD
        git -c safe.directory='*' -C "$nixpkgs" --work-tree="$tree" checkout-index --all --force 2>"$root/host/missing" ||
            say "$(wc -l <"$root/host/missing") files of $nixpkgs are not in the repository; going on without them"
        rm -f "$GIT_INDEX_FILE"
        unset GIT_INDEX_FILE
    else
        cp -a --reflink=auto "$nixpkgs" "$tree"
    fi
    [[ -e $tree/pkgs/stdenv/default.nix && -e $tree/flake.nix ]] || die "$nixpkgs has no tree of nixpkgs in it"
    sed -i 's|import ./linux args|(config.hostStages or (import ./linux)) args|' "$tree/pkgs/stdenv/default.nix"
    grep -q hostStages "$tree/pkgs/stdenv/default.nix" ||
        die "pkgs/stdenv/default.nix of $nixpkgs is not as expected: nix/host/stages.nix has no place in it"
    in_root to_store /host/tree >"$root/host/tree-path" || die "the tree could not be added to the store: see above"
    printf '%s\n' "$tree_revision" >"$root/host/tree-revision"
fi
rm -rf "$root/host/nixpkgs"
mkdir "$root/host/nixpkgs"
cp "$repo"/nix/host/*.nix "$root/host/nixpkgs/"

# crates FOLDER: fetches the crates of FOLDER/project's lock file into FOLDER/crates, under the
# names that importCargoLock gives them, so that a build has nothing to fetch. cargo runs as the
# user who called, whose settings say from where.
crates() {
    local line name='' version='' home files
    home=${CARGO_HOME:-$HOME/.cargo}
    cargo fetch --quiet --locked --manifest-path "$1/project/Cargo.toml"
    mkdir -p "$1/crates"
    while read -r line; do
        case $line in
            'name = '*) name=$(cut -d '"' -f 2 <<<"$line") ;;
            'version = '*) version=$(cut -d '"' -f 2 <<<"$line") ;;
            'source = "registry+'*)
                files=("$home/registry/cache/"*"/$name-$version.crate")
                [[ -e ${files[0]} ]] || die "cargo has fetched $name $version, but ${files[0]} does not exist"
                cp "${files[0]}" "$1/crates/crate-$name-$version.tar.gz"
                ;;
        esac
    done <"$1/project/Cargo.lock"
}

work=$(as_builder mktemp -d)
on_exit "rm -rf '$work'"
as_builder git clone --quiet --no-checkout . "$work/project"
as_builder git -C "$work/project" -c advice.detachedHead=false checkout --quiet "$revision"
# shellcheck disable=SC2016 # the inner shell expands it
as_builder bash -euo pipefail -c "$(declare -f die crates); "'crates "$1"' "$(basename "$0")" "$work"
rm -rf "$root"/{project,elsewhere,crates}
mkdir "$root/elsewhere"
cp -a "$work/project" "$root/project"
cp -a "$work/project" "$root/elsewhere/another"
cp -a "$work/crates" "$root/crates"
chown -R 0:0 "$root"/{project,elsewhere,crates}

# --- builds ----------------------------------------------------------------------------------------------------

# The input nixpkgs is this one, of another revision than flake.lock's.
nix_flags=(--no-write-lock-file --override-input nixpkgs path:/host/nixpkgs
    --override-input nixpkgs/tree "path:$(cat "$root/host/tree-path")"
    --override-input nixpkgs/std "path:$(cat "$root/host/std-path")")

# prepare_store FLAG...: adds what builds read, and prints the attributes that can be built here.
prepare_store() {
    local set
    (cd /crates && nix-store --add-fixed sha256 ./*.tar.gz) >/dev/null
    for set in packages checks; do
        nix eval --json "$@" "/project#$set.x86_64-linux" --apply builtins.attrNames |
            jq --raw-output --arg set "$set" '.[] | select(. != "default" and . != "vm" and . != "nix-fmt") |
                if $set == "checks" then "checks.x86_64-linux." + . else . end'
    done
}

# build ATTRIBUTE FLAG...: builds it, and prints hash and size of what it consists of.
build() {
    local attribute=$1 began=$SECONDS path file
    shift
    mkdir -p /results
    nix build --print-build-logs --out-link "/results/$attribute" "$@" "/project#$attribute"
    path=$(realpath "/results/$attribute")
    say "<== $attribute: $((SECONDS - began)) s, $path"
    while read -r file; do
        say "    $(sha256sum <"$file" | cut -d ' ' -f 1)  $(stat -c %s "$file") bytes  $attribute${file#"$path"}"
    done < <(find "$path" -type f -size +0)
}

# build_again ATTRIBUTE... -- FLAG...: the project's own derivations among what these attributes are
# built from, each once. Every program that links glibc sees the other clock.
build_again() {
    local folder=/elsewhere/another attributes=() derivation derivations began
    while [[ $1 != -- ]]; do
        attributes+=("$folder#$1")
        shift
    done
    shift
    mkdir -p /clock
    gcc -O2 -Wall -shared -fPIC -o /clock/clock.so /clock/clock.c
    say /clock/clock.so >/clock/preload
    say "the clock says $(LD_PRELOAD=/clock/clock.so date --utc +%F)"
    mapfile -t derivations < <(nix path-info --derivation --recursive "$@" "${attributes[@]}" |
        grep -E -- '-(stream-)?wontun([.-][^/]*)?\.drv$')
    ((${#derivations[@]})) || die "no derivation of the project's is among them"
    for derivation in "${derivations[@]}"; do
        began=$SECONDS
        nix build --print-build-logs --no-link --rebuild --cores 1 \
            --option extra-sandbox-paths "/etc/ld.so.preload=/clock/preload /clock/clock.so" "$derivation^*"
        say "<== the same bits: $derivation, $((SECONDS - began)) s"
    done
}

say "commit $revision; nixpkgs ${tree_revision:-$nixpkgs}"
mapfile -t known < <(in_root prepare_store "${nix_flags[@]}")
((${#known[@]})) || die "the flake cannot be evaluated: see above"
((${#attributes[@]})) || attributes=("${known[@]}")
for attribute in "${attributes[@]}"; do
    say "==> $attribute"
    in_root build "$attribute" "${nix_flags[@]}" || die "$attribute cannot be built: see above"
done
if [[ -n $twice ]]; then
    say "==> once more: another folder, another clock, one core"
    mapfile -t own < <(printf '%s\n' "${attributes[@]}" | grep -v '^checks\.')
    mkdir -p "$root/clock"
    cp "$repo/nix/host/clock.c" "$root/clock/"
    ((${#own[@]} == 0)) || in_root build_again "${own[@]}" -- "${nix_flags[@]}" ||
        die "a second build gives something else, or fails: see above"
fi
say "the results are in $root/results"
