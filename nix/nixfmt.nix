# The formatter of the .nix files: nixfmt for single files (`files`) and for the whole tree (`tree`, what `nix fmt`
# runs). nixpkgs before 25.05 has no nixfmt-tree; there nixpkgs-fmt stands in, so that the flake evaluates.
{ pkgs }:
{
  files = if pkgs ? nixfmt-tree then pkgs.nixfmt else pkgs.nixpkgs-fmt;
  tree = pkgs.nixfmt-tree or pkgs.nixpkgs-fmt;
}
