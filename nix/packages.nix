# What `nix build` offers on one system.
{ pkgs }:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv) hostPlatform;

  # pkgsStatic, not pkgsCross.musl64: there rustc would link musl dynamically.
  static =
    packages:
    let
      intel-ipsec-mb = packages.intel-ipsec-mb or null;
      isX86 = packages.stdenv.hostPlatform.isx86_64;
    in
    packages.pkgsStatic.callPackage ./package.nix {
      inherit intel-ipsec-mb;
      withIpsecMb =
        lib.warnIf (isX86 && intel-ipsec-mb == null)
          "this nixpkgs has no intel-ipsec-mb: wontun is built without Intel's cipher"
          (isX86 && intel-ipsec-mb != null);
    };

  # The image's tools always run on the machine that builds.
  imageOf =
    architecture: wontun: pkgs.callPackage ./image.nix { inherit architecture wontun; };

  wontun = static pkgs;
in
{
  inherit wontun;
  default = wontun;
  image = imageOf (if hostPlatform.isAarch64 then "arm64" else "amd64") wontun;
}
// lib.optionalAttrs hostPlatform.isx86_64 {
  image-arm64 = imageOf "arm64" (static pkgs.pkgsCross.aarch64-multiplatform);
}
