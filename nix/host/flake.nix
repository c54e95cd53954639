# nixpkgs for scripts/nix-host-build.sh: the tree that it was given, but the programs that run
# during a build are the machine's, in /usr. Inputs are folders that the script makes.
{
  inputs = {
    # with one change in pkgs/stdenv/default.nix, which lets the configuration name other stages
    tree = {
      url = "path:/host/tree";
      flake = false;
    };
    # Rust's standard library for musl
    std = {
      url = "path:/host/std";
      flake = false;
    };
  };

  outputs =
    {
      self,
      tree,
      std,
    }:
    let
      nixpkgs = (import (tree + "/flake.nix")).outputs { self = nixpkgs // tree; };
    in
    {
      inherit (nixpkgs) lib;
      legacyPackages = nixpkgs.legacyPackages // {
        x86_64-linux = import tree.outPath {
          system = "x86_64-linux";
          config.hostStages = import ./stages.nix tree.outPath;
          overlays = [ (import ./programs.nix std.outPath) ];
        };
      };
    };
}
