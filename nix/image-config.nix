# What the image promises, as plain data: image.nix builds it in, checks.nix reads it back from the built image, and
# scripts/check-nix.sh compares it with the Dockerfile, which makes the same image without Nix.
{
  version,
  # Where the source is, for the label; no label without it.
  source ? null,
}:
let
  # The format wants whole nanoseconds.
  second = 1000 * 1000 * 1000;
in
{
  Entrypoint = [ "/bin/wontun" ];
  # The default command, and no Cmd: it is read only without arguments, WONTUN_CONFIG and WONTUN_PEER.
  Env = [ "WONTUN_COMMAND=serve" ];
  StopSignal = "SIGTERM";
  ExposedPorts = {
    "19988/udp" = { };
    "51820/udp" = { };
  };
  # Not CMD-SHELL: there is no shell in it.
  Healthcheck = {
    Test = [
      "CMD"
      "/bin/wontun"
      "health"
    ];
    Interval = 10 * second;
    Timeout = 3 * second;
    StartPeriod = 5 * second;
    Retries = 3;
  };
  Labels = {
    "org.opencontainers.image.title" = "wontun";
    "org.opencontainers.image.description" =
      "A VPN tunnel in one small Linux binary; needs CAP_NET_ADMIN and /dev/net/tun";
    "org.opencontainers.image.version" = version;
    "org.opencontainers.image.licenses" = "MIT OR Apache-2.0";
  }
  // (if source == null then { } else { "org.opencontainers.image.source" = source; });
}
