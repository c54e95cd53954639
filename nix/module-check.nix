# The module, evaluated in a whole NixOS: what the units say, and that what cannot work is refused with a message. It
# all happens during evaluation; the derivation only holds the units' text.
{
  self,
  nixpkgs,
  pkgs,
}:
let
  inherit (pkgs) lib;

  system =
    tunnels:
    nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        {
          nixpkgs.pkgs = pkgs;
          boot.isContainer = true;
          system.stateVersion = lib.trivial.release;
          services.wontun.tunnels = tunnels;
        }
      ];
    };

  good =
    (system {
      tun0.openFirewall = true;
      client = {
        peer = "[2001:db8::1]:51820";
        interface = "wt-client.1";
        addresses = [
          "10.9.0.2/24"
          "fd00:9::2/64"
        ];
        mtu = 1400;
        keepalive = 10;
        logLevel = "trace";
        extraArgs = [ "--log-target=$HOME %i" ];
      };
      bare = {
        port = 20000;
        listen = [
          "192.0.2.1"
          "2001:db8::2"
        ];
        configure = false;
      };
      # The port of another tunnel, on another address.
      beside = {
        port = 20000;
        listen = [ "192.0.2.2" ];
        addresses = [ "10.10.0.1/24" ];
        openFirewall = true;
      };
      off = {
        enable = false;
        interface = "tun0";
      };
    }).config;

  text = name: good.systemd.units."wontun@${name}.service".text;
  has = name: line: lib.elem line (lib.splitString "\n" (text name));
  quoted = lib.concatMapStringsSep " " (argument: ''"${argument}"'');

  # What a unit's section [Service] sets, as lists of words; but for what starts wontun, where the two ways differ.
  serviceOf =
    unit:
    let
      section = lib.head (lib.splitString "\n[" (lib.last (lib.splitString "[Service]\n" unit)));
      settings = lib.concatMap (
        line:
        let
          parts = builtins.match "([A-Za-z]+)=(.*)" line;
        in
        lib.optional (parts != null) {
          name = lib.head parts;
          words = map (word: if word == "yes" then "true" else word) (
            lib.filter (word: word != "") (lib.splitString " " (lib.last parts))
          );
        }
      ) (lib.splitString "\n" (builtins.unsafeDiscardStringContext section));
    in
    removeAttrs
      (lib.mapAttrs (_: lib.concatMap (setting: setting.words)) (
        lib.groupBy (setting: setting.name) settings
      ))
      [
        "Environment"
        "EnvironmentFile"
        "ExecStart"
      ];
  template = builtins.readFile (../scripts/systemd + "/wontun@.service");

  otherwise =
    let
      here = serviceOf (text "tun0");
      there = serviceOf template;
    in
    lib.filter (name: here.${name} or null != there.${name} or null) (lib.attrNames (here // there));

  # The messages of those assertions that fail, of this module and any other.
  refusals =
    tunnels:
    map (failed: failed.message) (
      lib.filter (item: !item.assertion) (system tunnels).config.assertions
    );
  refusesOnly =
    part: tunnels:
    let
      messages = refusals tunnels;
    in
    lib.length messages == 1 && lib.all (lib.hasInfix part) messages;
  # Values that the option's type does not take.
  illTyped =
    options:
    !(builtins.tryEval (
      builtins.deepSeq (system { tun0 = options; }).config.systemd.units."wontun@tun0.service".text true
    )).success;

  expectations = {
    "no assertion fails" = lib.all (item: item.assertion) good.assertions;
    "a tunnel that is off has no unit" = !(good.systemd.units ? "wontun@off.service");
    "the others have one each" =
      lib.filter (lib.hasPrefix "wontun@") (lib.attrNames good.systemd.units) == [
        "wontun@bare.service"
        "wontun@beside.service"
        "wontun@client.service"
        "wontun@tun0.service"
      ];

    "a server's arguments" = lib.hasInfix (quoted [
      "--tun=tun0"
      "--keepalive=25"
      "--log-level=info"
    ]) (text "tun0");
    "a client's arguments" = lib.hasInfix (quoted [
      "--tun=wt-client.1"
      "--peer=[2001:db8::1]:51820"
      "--address=10.9.0.2/24"
      "--address=fd00:9::2/64"
      "--mtu=1400"
      "--keepalive=10"
      "--log-level=trace"
      "--log-target=$$HOME %%i"
    ]) (text "client");
    "arguments of a tunnel that configures nothing" = lib.hasInfix (quoted [
      "--tun=bare"
      "--no-configure"
      "--listen=192.0.2.1"
      "--listen=2001:db8::2"
      "--listen-port=20000"
      "--keepalive=25"
      "--log-level=info"
    ]) (text "bare");

    "the template for other distributions says the same: ${toString otherwise}" = otherwise == [ ];
    "hardening" = lib.all (has "tun0") [
      "DynamicUser=true"
      "AmbientCapabilities=CAP_NET_ADMIN"
      "CapabilityBoundingSet=CAP_NET_ADMIN"
      "DevicePolicy=closed"
      "DeviceAllow=/dev/net/tun rw"
      "RestrictAddressFamilies=AF_INET"
      "RestrictAddressFamilies=AF_INET6"
      "RestrictAddressFamilies=AF_NETLINK"
      "RestrictAddressFamilies=AF_UNIX"
      "MemoryDenyWriteExecute=true"
      "NoNewPrivileges=true"
      "ProtectSystem=strict"
      "Type=exec"
      "Restart=on-failure"
    ];
    # The order counts: what is allowed again stands after what is taken away.
    "system calls" = lib.hasInfix ''
      SystemCallFilter=@system-service
      SystemCallFilter=~@privileged @resources
      SystemCallFilter=capset seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
    '' (text "tun0");
    "nothing that takes the capability's or the device's effect" =
      !lib.any (lib.flip lib.hasInfix (text "tun0")) [
        "PrivateUsers"
        "PrivateDevices"
        "PrivateNetwork"
      ];

    "the firewall lets in what was asked for" =
      good.networking.firewall.allowedUDPPorts == [
        19988
        20000
      ];
    "the driver is loaded" = lib.elem "tun" good.boot.kernelModules;

    "openFirewall needs a client's port" = refusesOnly "openFirewall needs" {
      tun0 = {
        peer = "server";
        openFirewall = true;
      };
    };
    "and is content with one" =
      refusals {
        tun0 = {
          peer = "server";
          port = 20000;
          openFirewall = true;
        };
      } == [ ];
    "no port below 1024" = refusesOnly "below 1024" { tun0.port = 443; };
    "no interface twice" = refusesOnly "same interface tun0" {
      a.interface = "tun0";
      b = {
        interface = "tun0";
        peer = "server";
      };
    };
    "no port twice" = refusesOnly "a and b have the same port 19988" {
      a = { };
      b = {
        addresses = [ "10.9.0.1/24" ];
        port = 19988;
      };
    };
    "no address twice" = refusesOnly "same address 10.8.0.1" {
      a = { };
      b = {
        addresses = [ "10.8.0.1/16" ];
        port = 20000;
      };
    };
    "two clients may share the default port" =
      refusals {
        a.peer = "one";
        b = {
          peer = "other";
          addresses = [ "10.9.0.3/24" ];
        };
      } == [ ];
    "nothing to configure without configure" = refusesOnly "configure = false" {
      tun0 = {
        configure = false;
        mtu = 1400;
      };
    };
    "IPv6 inside needs its MTU" = refusesOnly "at least 1280" {
      tun0 = {
        addresses = [ "fd00::1/64" ];
        mtu = 1279;
      };
    };
    "no name that a unit cannot have" = refusesOnly "a unit gets this name" {
      "a b".interface = "tun0";
    };

    "an interface's name is at most 15 characters" = illTyped { interface = "sixteen-bytes-12"; };
    "an interface's name has no slash" = illTyped { interface = "a/b"; };
    "an interface's name is not .." = illTyped { interface = ".."; };
    "a peer is one word" = illTyped { peer = "two words"; };
    "a peer's port is a number" = illTyped { peer = "server:domain"; };
    "an address is one" = illTyped { addresses = [ "tunnel" ]; };
    "an MTU has bounds" = illTyped { mtu = 67; };
    "a log level is one of six" = illTyped { logLevel = "verbose"; };
    "a port has 16 bits" = illTyped { port = 65536; };
  };

  failed = lib.attrNames (lib.filterAttrs (_: holds: !holds) expectations);
in
assert lib.assertMsg (failed == [ ])
  "the module's check fails: ${lib.concatStringsSep "; " failed}; its first unit is\n${text "tun0"}";
pkgs.writeText "wontun-units" (
  lib.concatMapStringsSep "\n" text [
    "bare"
    "beside"
    "client"
    "tun0"
  ]
)
