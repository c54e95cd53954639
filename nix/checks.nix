# What `nix flake check` builds on one system. Each is a derivation, so what did not change is not built again.
{
  self,
  nixpkgs,
  pkgs,
}:
let
  inherit (pkgs) lib;
  own = self.packages.${pkgs.stdenv.hostPlatform.system};
  manifest = import ./manifest.nix { inherit lib; };

  # A command of cargo's on the same source, with the ordinary libc, as a developer runs it.
  cargoCheck =
    name: tools: command:
    pkgs.stdenv.mkDerivation {
      pname = "wontun-${name}";
      inherit (manifest) version;
      src = import ./source.nix { inherit lib; };
      cargoDeps = pkgs.rustPlatform.importCargoLock { lockFile = ../Cargo.lock; };
      nativeBuildInputs = [
        pkgs.cargo
        pkgs.rustc
        pkgs.rustPlatform.cargoSetupHook
      ]
      ++ tools;
      buildPhase = ''
        runHook preBuild
        ${command}
        runHook postBuild
      '';
      installPhase = "touch $out";
      dontFixup = true;
    };
in
{
  clippy = cargoCheck "clippy" [
    pkgs.clippy
  ] "cargo clippy --workspace --all-targets --offline --locked -- --deny warnings";

  fmt = cargoCheck "fmt" [ pkgs.rustfmt ] "cargo fmt --all --check";

  # An ordinary user without a network or /dev/net/tun; what needs those is the target e2e, which this leaves out.
  tests = cargoCheck "tests" [ ] "cargo test --workspace --offline --locked";

  nix-fmt = pkgs.runCommand "wontun-nix-fmt" {
    nativeBuildInputs = [ (import ./nixfmt.nix { inherit pkgs; }).files ];
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        ../flake.nix
        (lib.fileset.fileFilter (file: file.hasExt "nix") ../nix)
        (lib.fileset.fileFilter (file: file.hasExt "nix") ../nixos-test)
      ];
    };
  } "find $src -name '*.nix' -exec nixfmt --check {} + && touch $out";

  # One static file that needs nothing else.
  linkage =
    pkgs.runCommand "wontun-linkage"
      {
        nativeBuildInputs = [ pkgs.binutils ];
        binary = lib.getExe own.wontun;
        closure = pkgs.closureInfo { rootPaths = [ own.wontun ]; };
      }
      ''
        readelf --program-headers --dynamic "$binary" > said
        if grep -E 'INTERP|\(NEEDED\)' said; then
          echo "the binary is not static: it asks for the above at start" >&2
          exit 1
        fi
        if [[ $(wc -l < "$closure/store-paths") != 1 ]]; then
          echo "the binary names other store paths, which would come along with it:" >&2
          cat "$closure/store-paths" >&2
          exit 1
        fi
        touch $out
      '';

  image = import ./image-check.nix {
    inherit pkgs manifest;
    inherit (own) image wontun;
  };

  module = import ./module-check.nix { inherit self nixpkgs pkgs; };

  vm = import ../nixos-test { inherit self pkgs; };
}
