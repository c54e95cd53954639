# The image, a tar that `docker load` takes: one layer with one file, /bin/wontun.
#
# The same bytes on every machine: the tag and the labels come from Cargo.toml and not from a commit, `created` keeps
# its constant default (1970-01-01T00:00:01Z), and nothing is compressed, so that no compressor's version shows.
{
  lib,
  dockerTools,
  architecture,
  wontun,
  # ends the tag
  variant,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
dockerTools.buildLayeredImage {
  inherit (manifest) name;
  inherit architecture;
  tag = manifest.version + variant;
  compressor = "none";
  # Copied, where `contents` would link to it: so the image has no /nix/store. Whatever store path the binary named
  # would still become a layer of its own, and fail the check of the image's contents.
  extraCommands = ''
    install -D -m 0755 ${lib.getExe wontun} bin/wontun
  '';
  config = import ./image-config.nix {
    inherit (manifest) version;
    source = manifest.repository or null;
  };
}
