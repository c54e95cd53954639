# The binary. Called from pkgsStatic it is one static file, linked against musl; its check phase runs the unprivileged
# tests with that libc. Called for another processor it is cross-compiled, and the tests are left out.
{ lib, rustPlatform }:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;
  src = import ./source.nix { inherit lib; };
  cargoLock.lockFile = ../Cargo.lock;

  # It would add the list of dependencies to the binary; Cargo.lock holds it already.
  auditable = false;
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
