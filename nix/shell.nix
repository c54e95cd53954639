# `nix develop`: what working on the project needs, the scripts' tools included.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.cargo
    pkgs.clippy
    pkgs.rust-analyzer
    pkgs.rustc
    pkgs.rustfmt
    (import ./nixfmt.nix { inherit pkgs; }).files

    pkgs.binutils
    pkgs.curl
    pkgs.debootstrap
    pkgs.iproute2
    pkgs.iputils
    pkgs.libcap
    pkgs.netcat-openbsd
    pkgs.python3
    pkgs.qemu_kvm
    pkgs.shellcheck
    pkgs.strace
    pkgs.util-linux
  ];
  RUST_SRC_PATH = pkgs.rustPlatform.rustLibSrc;
}
