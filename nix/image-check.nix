# Opens the built image and compares everything in it with what is promised: the tags, the configuration, one layer with
# one file, that file the binary, no store path but the layer's in the history, and no owner or time of the builder.
{
  pkgs,
  manifest,
  image,
  wontun,
}:
let
  inherit (pkgs) lib;
  architecture = if pkgs.stdenv.hostPlatform.isAarch64 then "arm64" else "amd64";
in
pkgs.runCommand "wontun-image-check"
  {
    nativeBuildInputs = [ pkgs.jq ];
    inherit image;
    binary = lib.getExe wontun;
    closure = pkgs.closureInfo { rootPaths = [ image ]; };
    promised = builtins.toJSON {
      tags = [
        "${manifest.name}:latest"
        "${manifest.name}:${manifest.version}"
      ];
      inherit architecture;
      os = "linux";
      created = "1970-01-01T00:00:01+00:00";
      config = import ./image-config.nix {
        inherit (manifest) version;
        source = manifest.repository or null;
      };
    };
    passAsFile = [ "promised" ];
  }
  ''
    fail() {
      echo "$*" >&2
      exit 1
    }

    mkdir image root
    [[ $(tail -c +258 "$image" | head -c 5) == ustar ]] || fail "the image is not an uncompressed tar"
    tar -x -C image -f "$image"
    jq -e 'length == 1' image/manifest.json > /dev/null || fail "the tar holds more than one image"

    jq --sort-keys --slurpfile manifest image/manifest.json \
      '{ tags: $manifest[0][0].RepoTags, architecture, os, created, config }' \
      "image/$(jq -r '.[0].Config' image/manifest.json)" > found.json
    # The same moment can be written in two ways.
    sed -i 's/"1970-01-01T00:00:01Z"/"1970-01-01T00:00:01+00:00"/' found.json
    jq --sort-keys . "$promisedPath" > promised.json
    diff promised.json found.json || fail "the image's configuration (>) is not the promised one (<)"

    jq -r '.[0].Layers[]' image/manifest.json > layers
    while read -r layer; do
      tar -t -f "image/$layer"
    done < layers | sed 's|^\./||' | grep -v '/$' | grep . > files || true
    [[ $(cat files) == bin/wontun ]] || fail "expected the one file bin/wontun in the image, found: $(cat files)"
    while read -r layer; do
      tar -x -C root -f "image/$layer"
    done < layers
    cmp root/bin/wontun "$binary" || fail "the binary in the image is not the package's"
    [[ -x root/bin/wontun ]] || fail "the binary in the image is not executable"

    # The history names the layer, as dockerTools writes it. Nothing else in the tar is a store path.
    grep -v -e '-customisation-layer$' "$closure/store-paths" > paths || true
    [[ $(cat paths) == "$image" ]] || fail "the image names store paths: $(cat paths)"

    tar -t -v --numeric-owner --full-time --utc -f "$image" |
      grep -v -E '^[^ ]+ 0/0 +[0-9]+ 1970-01-01 00:00:01 ' > foreign || true
    [[ ! -s foreign ]] || fail "the tar has other owners or times than root and the constant: $(cat foreign)"
    # nixpkgs chooses the times in a layer, which are constant too.
    tar -t -v --numeric-owner -f image/*/layer.tar | grep -v -E '^[^ ]+ 0/0 ' > foreign || true
    [[ ! -s foreign ]] || fail "the layer has files of others than root: $(cat foreign)"

    # The binary and at most 100 kB of tar and JSON around it.
    (($(stat -c %s "$image") <= $(stat -c %s "$binary") + 100000)) ||
      fail "the image is much larger than the binary in it: $(stat -c %s "$image") bytes"
    touch $out
  ''
