# What `nix build` offers on one system.
{ pkgs }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv) hostPlatform;

  # pkgsStatic, not pkgsCross.musl64: there rustc would link musl dynamically.
  static = packages: packages.pkgsStatic.callPackage ./package.nix;

  # The image's tools always run on the machine that builds.
  imageOf =
    architecture: wontun: variant:
    pkgs.callPackage ./image.nix {
      inherit architecture wontun variant;
    };

  wontun = static pkgs { };
  wontun-ipsec-mb = static pkgs { withIpsecMb = true; };
in
{
  inherit wontun;
  default = wontun;
  image = imageOf (if hostPlatform.isAarch64 then "arm64" else "amd64") wontun "";
}
// lib.optionalAttrs (hostPlatform.isx86_64 && pkgs ? intel-ipsec-mb) {
  inherit wontun-ipsec-mb;
  image-ipsec-mb = imageOf "amd64" wontun-ipsec-mb "-ipsec-mb";
}
// lib.optionalAttrs hostPlatform.isx86_64 {
  image-arm64 = imageOf "arm64" (static pkgs.pkgsCross.aarch64-multiplatform { }) "";
}
