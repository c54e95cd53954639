# Two virtual machines on a virtual LAN, a client and a server, each with the NixOS module. What is tested stands in
# test_script.py, which knows nothing of NixOS: scripts/vm-test.sh runs the same on two Debian machines.
#
# It wants KVM. Without, QEMU can emulate the processor, which takes some times as long:
#     nix build --impure --expr '(builtins.getFlake (toString ./.)).checks.x86_64-linux.vm.overrideTestDerivation
#         (_: { requiredSystemFeatures = [ "nixos-test" ]; })'
{ self, pkgs }:
let
  own = self.packages.${pkgs.stdenv.hostPlatform.system};

  machine = {
    imports = [ self.nixosModules.default ];
    services.wontun.tunnels.tun0.logLevel = "debug";
    # For the script's own connections through the tunnel.
    networking.firewall.interfaces.tun0.allowedTCPPorts = [ 8080 ];
    environment.systemPackages = [
      pkgs.coreutils
      pkgs.curl
      pkgs.gnutar
      pkgs.iproute2
      pkgs.iputils
      # Debian's; NixOS has another by default.
      pkgs.netcat-openbsd
      pkgs.nftables
    ];
  };
in
pkgs.testers.runNixOSTest {
  name = "wontun";
  globalTimeout = 20 * 60;

  nodes.server = {
    imports = [ machine ];
    services.wontun.tunnels.tun0 = {
      plain = true;
      openFirewall = true;
    };
    services.wontun.tunnels.vpn = {
      # A name, which /etc/hosts of these machines knows.
      endpoint = "server";
      privateKeyFile = "/etc/wontun-test/key";
      openFirewall = true;
      extraArgs = [ "--subnet=10.77.0.0/24,fd77::/64" ];
    };
    # The script waits for it.
    systemd.services."wontun@vpn".serviceConfig.WatchdogSec = pkgs.lib.mkForce 10;
    # Of RFC 7748, section 6.1: the script knows its other half.
    environment.etc."wontun-test/key" = {
      text = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
      mode = "0600";
    };
    # The script compares the binary in it with the one that runs.
    environment.etc."wontun-test/image.tar".source = own.image;
  };

  nodes.client = {
    imports = [ machine ];
    # A name, which /etc/hosts of these machines knows.
    services.wontun.tunnels.tun0 = {
      plain = true;
      peer = "server";
    };
  };

  testScript = builtins.readFile ./test_script.py;
}
