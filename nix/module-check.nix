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
      tun0 = {
        plain = true;
        openFirewall = true;
      };
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
        plain = true;
        port = 20000;
        listen = [
          "192.0.2.1"
          "2001:db8::2"
        ];
        configure = false;
      };
      # The port of another tunnel, on another address.
      beside = {
        plain = true;
        port = 20000;
        listen = [ "192.0.2.2" ];
        addresses = [ "10.10.0.1/24" ];
        openFirewall = true;
      };
      off = {
        enable = false;
        interface = "tun0";
      };
      # WireGuard: a server whose clients are added as it runs, the same with a key of root's, and what stands here.
      server = {
        endpoint = "vpn.example.com:20443";
        openFirewall = true;
      };
      keyed = {
        endpoint = "[2001:db8::3]";
        privateKeyFile = "/run/keys/100%";
        nat = false;
        openFirewall = true;
        admin = {
          enable = true;
          addresses = [ "0.0.0.0:8443" ];
          names = [ "vpn.example.com" ];
          certificateFile = "/run/keys/cert";
          keyFile = "/run/keys/cert-key";
        };
      };
      site = {
        privateKeyFile = "/run/keys/site";
        port = 20444;
        addresses = [
          "10.11.0.1/24"
          "fd00:11::1/64"
        ];
        mtu = 1400;
        nat = true;
        peers = [
          {
            publicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
            allowedIPs = [ "10.11.0.2/32" ];
          }
          {
            publicKey = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
            presharedKeyFile = "/run/keys/shared";
            allowedIPs = [
              "10.11.0.3/32"
              "fd00:11::3/128"
            ];
            endpoint = "branch.example.com:51820";
            persistentKeepalive = 25;
          }
        ];
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
        # systemd 252 has no notify-reload.
        "ExecReload"
        "Type"
        # NixOS stops a changed unit and starts the new one, which is no restart: nothing is kept in between.
        "ExecStop"
        "FileDescriptorStoreMax"
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
        "wontun@keyed.service"
        "wontun@server.service"
        "wontun@site.service"
        "wontun@tun0.service"
      ];

    "a server's arguments" = lib.hasInfix (quoted [
      "--tun=tun0"
      "plain"
      "--keepalive=25"
      "--log-level=info"
    ]) (text "tun0");
    "a client's arguments" = lib.hasInfix (quoted [
      "--tun=wt-client.1"
      "plain"
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
      "plain"
      "--no-configure"
      "--listen=192.0.2.1"
      "--listen=2001:db8::2"
      "--listen-port=20000"
      "--keepalive=25"
      "--log-level=info"
    ]) (text "bare");

    "a WireGuard server's arguments" = lib.hasInfix (quoted [
      "--tun=server"
      "serve"
      "--dir=/var/lib/wontun"
      "--endpoint=vpn.example.com:20443"
      "--nat=auto"
      "--log-level=info"
    ]) (text "server");
    "those of one whose key is root's" = lib.hasInfix (quoted [
      "--tun=keyed"
      "serve"
      "--dir=/var/lib/wontun"
      "--endpoint=[2001:db8::3]"
      "--private-key-file=/run/credentials/wontun@keyed.service/private-key"
      "--nat=off"
      "--admin=on,0.0.0.0:8443"
      "--admin-name=vpn.example.com"
      "--admin-cert=/run/credentials/wontun@keyed.service/admin-certificate"
      "--admin-key=/run/credentials/wontun@keyed.service/admin-key"
      "--log-level=info"
    ]) (text "keyed");
    "its page's certificate is a credential" =
      has "keyed" "LoadCredential=admin-certificate:/run/keys/cert"
      && has "keyed" "LoadCredential=admin-key:/run/keys/cert-key";
    "its key is a credential" = has "keyed" "LoadCredential=private-key:/run/keys/100%%";
    "those of a tunnel whose peers stand here" = lib.hasInfix (quoted [
      "--tun=site"
      "--config=/etc/wontun/site.conf"
      "--nat=auto"
      "--log-level=info"
    ]) (text "site");
    "its keys are credentials" =
      has "site" "LoadCredential=private-key:/run/keys/site"
      && has "site" "LoadCredential=preshared-key-1:/run/keys/shared";
    "its file" =
      good.environment.etc."wontun/site.conf".text == ''
        [Interface]
        PrivateKeyFile = /run/credentials/wontun@site.service/private-key
        ListenPort = 20444
        Address = 10.11.0.1/24, fd00:11::1/64
        MTU = 1400

        [Peer]
        PublicKey = hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
        AllowedIPs = 10.11.0.2/32

        [Peer]
        PublicKey = 3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=
        PresharedKeyFile = /run/credentials/wontun@site.service/preshared-key-1
        AllowedIPs = 10.11.0.3/32, fd00:11::3/128
        Endpoint = branch.example.com:51820
        PersistentKeepalive = 25
      '';
    "other peers are read by the tunnel that runs" = lib.hasInfix "X-Reload-Triggers=" (text "site");
    "forwarding is turned on for whom it is wanted" =
      good.boot.kernel.sysctl."net.ipv4.ip_forward" == 1
      && good.boot.kernel.sysctl."net.ipv6.conf.all.forwarding" == 1;

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
      "Type=notify-reload"
      "WatchdogSec=30"
      "User=wontun"
      "StateDirectory=wontun"
      "Restart=on-failure"
    ];
    "the template waits for readiness too" = lib.all (lib.flip lib.elem (lib.splitString "\n" template)) [
      "Type=notify"
      "ExecReload=/bin/sh -c \"kill -HUP $MAINPID\""
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
      lib.sort lib.lessThan good.networking.firewall.allowedUDPPorts == [
        19988
        20000
        20443
        51820
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
    "no port below 1024" = refusesOnly "below 1024" {
      tun0 = {
        plain = true;
        port = 443;
      };
    };
    "no interface twice" = refusesOnly "same interface tun0" {
      a = {
        plain = true;
        interface = "tun0";
      };
      b = {
        interface = "tun0";
        peer = "server";
      };
    };
    "no port twice" = refusesOnly "a and b have the same port 19988" {
      a.plain = true;
      b = {
        plain = true;
        addresses = [ "10.9.0.1/24" ];
        port = 19988;
      };
    };
    "no address twice" = refusesOnly "same address 10.8.0.1" {
      a.plain = true;
      b = {
        plain = true;
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
        plain = true;
        configure = false;
        mtu = 1400;
      };
    };
    "IPv6 inside needs its MTU" = refusesOnly "at least 1280" {
      tun0 = {
        plain = true;
        addresses = [ "fd00::1/64" ];
        mtu = 1279;
      };
    };
    "no name that a unit cannot have" = refusesOnly "a unit gets this name" {
      "a b" = {
        plain = true;
        interface = "tun0";
      };
    };

    "peers need a key" = refusesOnly "peers needs" {
      tun0.peers = [ { publicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; } ];
    };
    "a server's clients are not declared" = refusesOnly "'wontun peer add' adds a peer" {
      tun0 = {
        endpoint = "vpn.example.com";
        privateKeyFile = "/run/keys/key";
        peers = [ { publicKey = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="; } ];
      };
    };
    "no plain options for WireGuard" = refusesOnly "for plain tunnels" {
      tun0 = {
        endpoint = "vpn.example.com";
        peer = "server";
      };
    };
    "no NAT for plain tunnels" = refusesOnly "nat is for WireGuard" {
      tun0 = {
        plain = true;
        nat = true;
      };
    };
    "an unencrypted server is asked for by its name" = refusesOnly "plain = true" {
      tun0.openFirewall = false;
    };
    "and is not WireGuard" = refusesOnly "does not encrypt" {
      tun0 = {
        plain = true;
        endpoint = "vpn.example.com";
      };
    };
    "no key in the store" = refusesOnly "can be read by everybody" {
      tun0.privateKeyFile = "${pkgs.writeText "key" "no key"}";
    };
    "no page without a server" = refusesOnly "admin is a server's page" {
      tun0 = {
        plain = true;
        admin.enable = true;
      };
    };
    "no certificate without its key" = refusesOnly "go together" {
      tun0 = {
        endpoint = "vpn.example.com";
        admin = {
          enable = true;
          addresses = [ "192.0.2.1:8443" ];
          certificateFile = "/run/keys/cert";
        };
      };
    };
    "no proxy without a name" = refusesOnly "needs the name" {
      tun0 = {
        endpoint = "vpn.example.com";
        admin = {
          enable = true;
          proxy = "127.0.0.1";
        };
      };
    };
    "no port twice, by default either" = refusesOnly "same port 51820" {
      a.endpoint = "one.example.com";
      b.endpoint = "other.example.com";
    };

    "a key is given by a path" = illTyped { privateKeyFile = "keys/wontun"; };
    "a public key is one" = illTyped {
      privateKeyFile = "/run/keys/key";
      peers = [ { publicKey = "none"; } ];
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
    "keyed"
    "server"
    "site"
    "tun0"
  ]
)
