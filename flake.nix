{
  description = "wontun: a VPN tunnel in one small Linux binary";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      perSystem = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = perSystem (pkgs: import ./nix/packages.nix { inherit pkgs; });
      nixosModules.default = import ./nix/module.nix { inherit self; };
      checks = perSystem (pkgs: import ./nix/checks.nix { inherit self nixpkgs pkgs; });
      devShells = perSystem (pkgs: {
        default = import ./nix/shell.nix { inherit pkgs; };
      });
      formatter = perSystem (pkgs: (import ./nix/nixfmt.nix { inherit pkgs; }).tree);
    };
}
