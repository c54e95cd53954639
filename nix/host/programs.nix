# An overlay that puts the machine's programs in the place of nixpkgs' packages, where a derivation
# of the project or a function of nixpkgs that it calls names them. What it does not name is never
# evaluated.
std: final: prev:
let
  inherit (prev) lib path;
  inherit (prev.stdenv) buildPlatform hostPlatform targetPlatform;

  # A package from a script that links to what is there, with the attributes that nixpkgs asks of
  # packages.
  package =
    pname: version: attributes: script:
    let
      self =
        derivation {
          name = "${pname}-${version}";
          system = buildPlatform.system;
          builder = "/bin/bash";
          outputs = [ "out" ];
          args = [
            "-euc"
            ''
              export PATH=/usr/bin
              mkdir -p $out/bin
              ${script}
            ''
          ];
        }
        // {
          inherit pname version;
          inherit (final) stdenv;
          meta = {
            description = "${pname} of the machine";
            platforms = lib.platforms.all;
            mainProgram = pname;
            broken = false;
            available = true;
            outputsToInstall = [ "out" ];
          };
          override = _: self;
          overrideAttrs = _: self;
          passthru = { };
        }
        // attributes;
    in
    self;

  linked =
    attributes: pname: programs:
    package pname "host" attributes (
      lib.concatMapStrings (program: ''
        ln -s /usr/bin/${program} $out/bin/
      '') programs
    );

  # Packages and their programs.
  programs = lib.mapAttrs (linked { }) {
    bzip2 = [ "bzip2" ];
    cmake = [ "cmake" ];
    curl = [ "curl" ];
    dash = [ "dash" ];
    diffutils = [
      "cmp"
      "diff"
    ];
    fakeroot = [
      "faked-sysv"
      "fakeroot"
    ];
    file = [ "file" ];
    findutils = [
      "find"
      "xargs"
    ];
    gawk = [ "gawk" ];
    gnugrep = [
      "egrep"
      "fgrep"
      "grep"
    ];
    gnumake = [ "make" ];
    gnused = [ "sed" ];
    gnutar = [ "tar" ];
    gzip = [
      "gunzip"
      "gzip"
    ];
    jq = [ "jq" ];
    moreutils = [ "sponge" ];
    nix = [
      "nix"
      "nix-store"
    ];
    perl = [ "perl" ];
    pigz = [ "pigz" ];
    rsync = [ "rsync" ];
    xz = [ "xz" ];
    zstd = [ "zstd" ];
  };

  # What NixOS' modules name when they are evaluated, but no build of the project runs.
  unused = lib.genAttrs [
    "fish"
    "glibcLocales"
    "shadow"
    "systemd"
    "tzdata"
    "xonsh"
    "zsh"
  ] (pname: package pname "host" { shellPath = "/bin/${pname}"; } "");

  bash = package "bash" "host" { shellPath = "/bin/bash"; } ''
    ln -s /usr/bin/bash $out/bin/bash
    ln -s bash $out/bin/sh
  '';

  python3 =
    package "python3" "host"
      {
        isPy3k = true;
        isPyPy = false;
        executable = "python3";
        interpreter = "${python3}/bin/python3";
        pythonVersion = "3";
        pythonAtLeast = _: true;
        pythonOlder = _: false;
        sitePackages = "lib/python3/dist-packages";
        pkgs = python3Packages;
        withPackages = _: python3;
      }
      ''
        ln -s /usr/bin/python3 $out/bin/python3
        ln -s python3 $out/bin/python
      '';
  python3Packages = prev.python3Packages // {
    python = python3;
    flake8 = linked { } "flake8" [ "flake8" ];
  };

  # The musl that the target's programs link, and the compiler for it: Debian's gcc with musl's
  # headers for its own. The kernel's headers stand beside them, as in nixpkgs.
  isForTarget = targetPlatform != hostPlatform;
  cpu = targetPlatform.parsed.cpu.name;
  prefix = "${targetPlatform.config}-";
  musl = package "musl" "host" { linuxHeaders = null; } ''
    cp -r /usr/include/${cpu}-linux-musl $out/include
    cp -rL /usr/include/linux /usr/include/asm-generic $out/include/
    for asm in /usr/include/${cpu}-linux-gnu/asm /usr/${cpu}-linux-gnu/include/asm; do
      [[ ! -d $asm ]] || cp -rL $asm $out/include/asm
    done
    cp -rL /usr/lib/${cpu}-linux-musl $out/lib
  '';
  targetBinutils =
    package "binutils" "host"
      {
        isGNU = true;
        targetPrefix = prefix;
      }
      ''
        for program in addr2line ar as c++filt ld ld.bfd nm objcopy objdump ranlib readelf size strings strip; do
          ln -s /usr/bin/${cpu}-linux-gnu-$program $out/bin/${prefix}$program
        done
      '';
  targetGcc =
    package "gcc" "host"
      {
        isGNU = true;
        langC = true;
        langCC = false;
        hardeningUnsupportedFlags = [ ];
      }
      ''
        own=$(dirname "$(${cpu}-linux-gnu-gcc -print-libgcc-file-name)")
        for program in cpp gcc g++; do
          printf '#!/bin/bash\nexec /usr/bin/${cpu}-linux-gnu-%s -nostdinc -isystem %s/include "$@"\n' \
            $program $own > $out/bin/${prefix}$program
          chmod +x $out/bin/${prefix}$program
        done
        mkdir $out/lib
      '';

  # rustc with the standard library of the machine that builds and, if they differ, of the target.
  rustVersion = lib.fileContents (std + "/version");
  rustc-unwrapped =
    package "rustc" rustVersion
      {
        src = null;
        llvm = null;
        llvmPackages = null;
        targetPlatforms = lib.platforms.all;
        badTargetPlatforms = [ ];
        tier1TargetPlatforms = lib.platforms.all;
        unwrapped = rustc-unwrapped;
      }
      ''
        ln -s /usr/bin/rustc /usr/bin/rustdoc $out/bin/
        mkdir -p $out/lib/rustlib
        ln -s /usr/lib/rustlib/${buildPlatform.rust.rustcTarget} $out/lib/rustlib/
        ${lib.optionalString isForTarget ''
          ln -s ${std}/${targetPlatform.rust.rustcTarget} $out/lib/rustlib/
        ''}
      '';
  withHostRust =
    rust:
    rust
    // {
      packages = rust.packages // {
        stable = rust.packages.stable.overrideScope (
          _: _:
          {
            inherit rustc-unwrapped;
            rustfmt = linked { } "rustfmt" [ "rustfmt" ];
            clippy = linked { } "clippy" [
              "cargo-clippy"
              "clippy-driver"
            ];
          }
          // lib.optionalAttrs (!isForTarget) {
            cargo = package "cargo" rustVersion { } "ln -s /usr/bin/cargo $out/bin/";
          }
        );
      };
    };
in
# What runs on the machine that builds; nothing for it is replaced among the target's own packages.
lib.optionalAttrs (hostPlatform == buildPlatform) (
  programs
  // unused
  // lib.genAttrs (lib.filter (name: builtins.match "rust_1_[0-9]+" name != null) (
    lib.attrNames prev
  )) (name: withHostRust prev.${name})
  // {
    inherit bash python3 python3Packages;
    bashInteractive = bash;
    runtimeShell = "/bin/bash";
    runtimeShellPackage = bash;
    python3Minimal = python3;
    binutils = linked { isGNU = true; } "binutils" [
      "ar"
      "as"
      "ld"
      "nm"
      "objdump"
      "readelf"
      "strip"
    ];
    coreutils = package "coreutils" "host" { } ''
      for program in $(dpkg-query -L coreutils | grep '^/usr/bin/.'); do
        ln -s $program $out/bin/
      done
    '';
    lndir = linked { } "lndir" [ "lndir" ];
    xorg = prev.xorg // {
      inherit (final) lndir;
    };
    # The hook of nixpkgs, which shrinks the search paths of shared objects.
    patchelf = package "patchelf" "host" { } ''
      ln -s /usr/bin/patchelf $out/bin/
      mkdir $out/nix-support
      cp ${path + "/pkgs/development/tools/misc/patchelf/setup-hook.sh"} $out/nix-support/setup-hook
    '';
    expand-response-params = package "expand-response-params" "host" { } ''
      gcc -O2 -o $out/bin/expand-response-params \
        ${path + "/pkgs/build-support/expand-response-params/expand-response-params.c"}
    '';
    # It would fetch files that say what platforms there are; cargo does without.
    updateAutotoolsGnuConfigScriptsHook = package "no-config-scripts" "host" { } "";
    # Only programs that check other programs need what these are written in.
    pandoc = bash;
    shellcheck = bash;
    shellcheck-minimal = bash // {
      compiler = bash;
    };
  }
  // lib.optionalAttrs isForTarget {
    gcc = final.wrapCCWith {
      cc = targetGcc;
      libc = musl;
      includeFortifyHeaders = false;
      bintools = final.wrapBintoolsWith {
        bintools = targetBinutils;
        libc = musl;
      };
    };
    # nixpkgs links static programs for aarch64 with it.
    llvmPackages = prev.llvmPackages // {
      bintools = package "lld" "host" { isLLVM = true; } ''
        ln -s /usr/bin/ld.lld $out/bin/${prefix}ld.lld
      '';
    };
  }
)
