# The source of every cargo derivation: what nix/source.txt names.
{ lib }:
let
  names = lib.filter (line: line != "" && !lib.hasPrefix "#" line) (
    lib.splitString "\n" (builtins.readFile ./source.txt)
  );
in
lib.fileset.toSource {
  root = ../.;
  fileset = lib.fileset.unions (map (name: ../. + "/${name}") names);
}
