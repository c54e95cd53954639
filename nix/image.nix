# The image, a tar that `docker load` takes: one layer with one file, /bin/wontun.
#
# The same bytes on every machine: the tags and the labels come from Cargo.toml and not from a commit, `created` keeps
# its constant default (1970-01-01T00:00:01Z), and nothing is compressed, so that no compressor's version shows.
# dockerTools records the owner of the builder's files in the outer tar, so that tar is packed again, with a second tag.
{
  lib,
  dockerTools,
  jq,
  runCommand,
  architecture,
  wontun,
}:
let
  manifest = import ./manifest.nix { inherit lib; };

  layered = dockerTools.buildLayeredImage {
    inherit (manifest) name;
    inherit architecture;
    tag = manifest.version;
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
  };
in
runCommand layered.name
  {
    nativeBuildInputs = [ jq ];
    # What NixOS' options for containers read of an image.
    inherit (layered) imageName;
    passthru = { inherit (layered) imageTag; };
    latest = "${layered.imageName}:latest";
  }
  ''
    mkdir image
    tar -x -C image -f ${layered}
    jq --arg latest "$latest" '.[0].RepoTags |= [$latest] + .' image/manifest.json > manifest.json
    mv manifest.json image/
    cd image
    tar -c -f $out --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@1 -- *
  ''
