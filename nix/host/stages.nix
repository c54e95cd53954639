# The stages of a stdenv for Linux that compiles nothing: nixpkgs' setup.sh, hooks and wrappers
# around gcc and the other programs in /usr. nixpkgs has one in pkgs/stdenv/native, which does not
# evaluate any more.
tree:
{
  lib,
  localSystem,
  crossSystem,
  config,
  overlays,
  crossOverlays ? [ ],
}:
let
  shell = "/bin/bash";

  stdenvOf =
    {
      cc,
      fetchurl,
      overrides ? _: _: { },
    }:
    import (tree + "/pkgs/stdenv/generic") {
      buildPlatform = localSystem;
      hostPlatform = localSystem;
      targetPlatform = localSystem;
      inherit
        cc
        config
        overrides
        shell
        ;
      fetchurlBoot = fetchurl;
      initialPath = [ "/usr" ];
      extraBuildInputs = [ ];
      extraNativeBuildInputs = [ ];
      # The wrappers would refuse files outside of the store.
      preHook = ''
        export NIX_ENFORCE_PURITY= NIX_ENFORCE_NO_NATIVE=''${NIX_ENFORCE_NO_NATIVE-1}
      '';
    };

  # What both wrappers are told.
  native = {
    inherit lib;
    isGNU = true;
    nativeTools = true;
    nativeLibc = true;
    nativePrefix = "/usr";
    runtimeShell = shell;
    expand-response-params = "";
  };
in
assert crossSystem == localSystem;
[
  (
    { }:
    rec {
      __raw = true;
      stdenv = stdenvOf {
        cc = null;
        fetchurl = null;
      };
      stdenvNoCC = stdenv;
      cc = import (tree + "/pkgs/build-support/cc-wrapper") (
        native
        // {
          name = "cc";
          inherit stdenvNoCC;
          includeFortifyHeaders = false;
          bintools = import (tree + "/pkgs/build-support/bintools-wrapper") (
            native
            // {
              name = "bintools";
              inherit stdenvNoCC;
            }
          );
        }
      );
      # Everything that a build downloads elsewhere is in the store before it begins.
      fetchurl = import (tree + "/pkgs/build-support/fetchurl") {
        inherit lib stdenvNoCC;
        buildPackages = { inherit stdenvNoCC; };
        cacert = null;
        curl = "/usr";
      };
    }
  )
  (previous: {
    inherit config overlays;
    stdenv = stdenvOf {
      inherit (previous) cc fetchurl;
      overrides = _: _: { inherit (previous) fetchurl; };
    };
  })
]
