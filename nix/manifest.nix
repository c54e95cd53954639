# The root package's table of Cargo.toml, with the version that it takes from the workspace.
{ lib }:
let
  cargo = lib.importTOML ../Cargo.toml;
in
cargo.package // { inherit (cargo.workspace.package) version; }
