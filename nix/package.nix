# The binary. Called from pkgsStatic it is one static file, linked against musl; its check phase runs the unprivileged
# tests with that libc. Called for another processor it is cross-compiled, and the tests are left out.
# On x86_64 it has Intel's cipher for processors with AVX-512, unless `withIpsecMb` is false.
{
  lib,
  rustPlatform,
  intel-ipsec-mb,
  withIpsecMb,
}:
let
  manifest = import ./manifest.nix { inherit lib; };

  # Its Makefile makes a shared library unless it is told otherwise. What is linked of it calls no C library, so it is
  # the one for glibc.
  library = intel-ipsec-mb.overrideAttrs (old: {
    makeFlags = old.makeFlags ++ [ "SHARED=n" ];
  });
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  cargoTestFlags = [ "--workspace" ];
  buildFeatures = lib.optional withIpsecMb "ipsec-mb";
  env = {
    # A static file loads no library: an RPATH would only refer to the store.
    NIX_NO_SELF_RPATH = 1;
  }
  // lib.optionalAttrs withIpsecMb { IPSEC_MB_LIB_DIR = "${library}/lib"; };

  # It would add the list of dependencies to the binary; Cargo.lock holds it already.
  auditable = false;
  # Symbols too: by default Nix strips debugging information only, and it overrides Cargo.toml's `strip`.
  stripAllList = [ "bin" ];
  # A store path in the binary, its own or another, would become part of its closure and of the image.
  allowedReferences = [ ];
  # The tests need no link-time optimisation, which takes longer than they do.
  checkType = "debug";

  meta = {
    inherit (manifest) description;
    mainProgram = "wontun";
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    platforms = lib.platforms.linux;
  };
}
