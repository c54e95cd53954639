# The NixOS module: `services.wontun.tunnels.<name>`, one hardened unit `wontun@<name>.service` for each tunnel. Its
# settings are those of scripts/systemd/wontun@.service, the template for other distributions; module-check.nix
# compares them.
{ self }:
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;

  tunnels = lib.filterAttrs (_: tunnel: tunnel.enable) config.services.wontun.tunnels;
  all = lib.attrValues tunnels;

  # A WireGuard tunnel is a server whose clients come and go by `wontun peer`, or what these options say of it.
  isServer = tunnel: tunnel.endpoint != null;
  isDeclared = tunnel: !isServer tunnel && (tunnel.privateKeyFile != null || tunnel.peers != [ ]);
  isWireGuard = tunnel: isServer tunnel || isDeclared tunnel;

  # The port that a tunnel takes; null where it may be any: of a declared one without, and of a plain client, which
  # takes another when 19988 is in use.
  portOf =
    tunnel:
    if tunnel.port != null then
      tunnel.port
    else if isServer tunnel then
      endpointPort tunnel.endpoint
    else if isDeclared tunnel || tunnel.peer != null || !tunnel.plain then
      null
    else
      defaultPort;
  defaultPort = 19988;
  endpointPort =
    endpoint:
    let
      given = builtins.match "(.*]|[^:]*):([0-9]{1,5})" endpoint;
    in
    if given == null then 51820 else lib.toInt (lib.last given);

  addressesOf =
    tunnel:
    if isWireGuard tunnel then
      map (cidr: lib.head (lib.splitString "/" cidr)) tunnel.addresses
    else if !tunnel.configure then
      [ ]
    else if tunnel.addresses != [ ] then
      map (cidr: lib.head (lib.splitString "/" cidr)) tunnel.addresses
    else if tunnel.peer == null then
      [ "10.8.0.1" ]
    else
      [ "10.8.0.3" ];

  # Whether two tunnels would bind the same port of the same local address.
  portsClash =
    a: b:
    portOf a != null
    && portOf a == portOf b
    && (a.listen == [ ] || b.listen == [ ] || lib.intersectLists a.listen b.listen != [ ]);

  pairs = lib.concatLists (
    lib.imap1 (
      place: a:
      map (b: {
        inherit a b;
        names = "${a.name} and ${b.name}";
      }) (lib.drop place all)
    ) all
  );

  perTunnel =
    tunnel:
    let
      option = "services.wontun.tunnels.${tunnel.name}";
      port = portOf tunnel;
    in
    [
      {
        assertion = builtins.match "[A-Za-z0-9:_.-]+" tunnel.name != null;
        message = "${option}: a unit gets this name, so it has letters, digits, ':', '_', '.' and '-' only";
      }
      {
        assertion = tunnel.openFirewall -> port != null;
        message = "${option}.openFirewall needs ${option}.port: a client without one may take any port";
      }
      {
        assertion = port == null || port >= 1024;
        message = "${option}.port is ${toString port}: the unit may not bind one below 1024; choose a higher one";
      }
      {
        assertion = tunnel.configure || (tunnel.addresses == [ ] && tunnel.mtu == null);
        message = "${option}: addresses and mtu have no effect with configure = false; leave them out";
      }
      {
        assertion =
          tunnel.mtu == null || tunnel.mtu >= 1280 || !lib.any (lib.hasInfix ":") tunnel.addresses;
        message = "${option}.mtu is ${toString tunnel.mtu}: an IPv6 address inside needs at least 1280";
      }
      {
        assertion = isDeclared tunnel -> tunnel.privateKeyFile != null;
        message = "${option}.peers needs ${option}.privateKeyFile: this side's own key";
      }
      {
        assertion =
          isServer tunnel -> tunnel.peers == [ ] && tunnel.addresses == [ ] && tunnel.mtu == null;
        message =
          "${option}: with endpoint, peers, addresses and mtu are in the server's own file; "
          + "'wontun peer add' adds a peer, and extraArgs takes --subnet";
      }
      {
        assertion =
          isWireGuard tunnel -> tunnel.peer == null && tunnel.listen == [ ] && tunnel.configure;
        message =
          "${option} is WireGuard by its privateKeyFile, peers or endpoint: "
          + "peer, listen and configure are for plain tunnels";
      }
      {
        assertion = isWireGuard tunnel || tunnel.plain || tunnel.peer != null;
        message =
          "${option} is no tunnel yet: set endpoint for a WireGuard server, privateKeyFile and peers for another "
          + "WireGuard tunnel, or plain = true for a server that does not encrypt";
      }
      {
        assertion = tunnel.plain -> !isWireGuard tunnel;
        message = "${option}: plain = true does not encrypt, and endpoint, privateKeyFile and peers are WireGuard's";
      }
      {
        assertion = tunnel.nat -> isWireGuard tunnel;
        message = "${option}.nat is for WireGuard: set endpoint, or privateKeyFile and peers";
      }
      {
        assertion = tunnel.admin.enable -> isServer tunnel;
        message = "${option}.admin is a server's page: set ${option}.endpoint";
      }
      {
        assertion = (tunnel.admin.certificateFile == null) == (tunnel.admin.keyFile == null);
        message = "${option}.admin: certificateFile and keyFile go together";
      }
      {
        assertion = tunnel.admin.certificateFile != null -> tunnel.admin.addresses != [ ];
        message = "${option}.admin.certificateFile needs an address outside of the tunnel: admin.addresses";
      }
      {
        assertion =
          lib.any (address: lib.hasPrefix "0.0.0.0:" address || lib.hasPrefix "[::]:" address) tunnel.admin.addresses
          -> tunnel.admin.names != [ ];
        message = "${option}.admin.addresses: for all addresses browsers need a name of the page: admin.names";
      }
      {
        assertion = tunnel.admin.proxy != null -> tunnel.admin.names != [ ];
        message = "${option}.admin.proxy needs the name by which browsers reach the page: admin.names";
      }
      {
        assertion = lib.all (path: !lib.hasPrefix builtins.storeDir path) (keyFiles tunnel);
        message =
          "${option}: a key in the Nix store can be read by everybody; "
          + "give the path of a file outside, in quotes";
      }
    ];

  keyFiles =
    tunnel:
    lib.filter (path: path != null) (
      [
        tunnel.privateKeyFile
        tunnel.admin.keyFile
      ]
      ++ map (peer: peer.presharedKeyFile) tunnel.peers
    );

  # Root's files with keys come to the service as credentials, which have these names in the unit's folder.
  credentials =
    tunnel:
    lib.optional (tunnel.privateKeyFile != null) {
      id = "private-key";
      path = tunnel.privateKeyFile;
    }
    ++ lib.optionals (tunnel.admin.certificateFile != null) [
      {
        id = "admin-certificate";
        path = tunnel.admin.certificateFile;
      }
      {
        id = "admin-key";
        path = tunnel.admin.keyFile;
      }
    ]
    ++ lib.concatLists (
      lib.imap0 (
        number: peer:
        lib.optional (peer.presharedKeyFile != null) {
          id = presharedKeyId number;
          path = peer.presharedKeyFile;
        }
      ) tunnel.peers
    );
  presharedKeyId = number: "preshared-key-${toString number}";
  credentialPath = tunnel: id: "/run/credentials/wontun@${tunnel.name}.service/${id}";

  # What wontun is given of a declared tunnel; no secret is in it.
  configuration =
    tunnel:
    let
      line = key: value: lib.optional (value != null) "${key} = ${toString value}";
      list = key: values: lib.optional (values != [ ]) "${key} = ${lib.concatStringsSep ", " values}";
      peer =
        number: options:
        [
          ""
          "[Peer]"
        ]
        ++ line "PublicKey" options.publicKey
        ++ lib.optional (
          options.presharedKeyFile != null
        ) "PresharedKeyFile = ${credentialPath tunnel (presharedKeyId number)}"
        ++ list "AllowedIPs" options.allowedIPs
        ++ line "Endpoint" options.endpoint
        ++ line "PersistentKeepalive" options.persistentKeepalive;
      lines = [
        "[Interface]"
        "PrivateKeyFile = ${credentialPath tunnel "private-key"}"
      ]
      ++ line "ListenPort" tunnel.port
      ++ list "Address" tunnel.addresses
      ++ line "MTU" tunnel.mtu
      ++ lib.concatLists (lib.imap0 peer tunnel.peers);
    in
    lib.concatLines lines;
  configurationFile = tunnel: "wontun/${tunnel.name}.conf";

  perPair =
    {
      a,
      b,
      names,
    }:
    let
      option = "services.wontun.tunnels";
      shared = lib.intersectLists (addressesOf a) (addressesOf b);
    in
    [
      {
        assertion = a.interface != b.interface;
        message = "${option}: ${names} have the same interface ${a.interface}; give one another";
      }
      {
        assertion = !portsClash a b;
        message = "${option}: ${names} have the same port ${toString (portOf a)}; give one another";
      }
      {
        assertion = shared == [ ];
        message = "${option}: ${names} have the same address ${toString shared}; give one another";
      }
    ];

  arguments =
    tunnel:
    let
      # In one word, so that no value is taken for an option.
      given = name: value: lib.optional (value != null) "--${name}=${toString value}";
      each = name: map (value: "--${name}=${value}");
    in
    given "tun" tunnel.interface
    ++ (
      if isServer tunnel then
        [
          "serve"
          "--dir=/var/lib/wontun"
        ]
        ++ given "endpoint" tunnel.endpoint
        ++ given "listen-port" tunnel.port
        ++ lib.optional (
          tunnel.privateKeyFile != null
        ) "--private-key-file=${credentialPath tunnel "private-key"}"
      else if isDeclared tunnel then
        [ "--config=/etc/${configurationFile tunnel}" ]
      else
        [ "plain" ]
        ++ given "peer" tunnel.peer
        ++ each "address" tunnel.addresses
        ++ given "mtu" tunnel.mtu
        ++ lib.optional (!tunnel.configure) "--no-configure"
        ++ each "listen" tunnel.listen
        ++ given "listen-port" tunnel.port
        ++ given "keepalive" tunnel.keepalive
    )
    ++ lib.optional (isWireGuard tunnel) "--nat=${if tunnel.nat then "auto" else "off"}"
    ++ lib.optionals tunnel.admin.enable (
      [ "--admin=${lib.concatStringsSep "," ([ "on" ] ++ tunnel.admin.addresses)}" ]
      ++ each "admin-name" tunnel.admin.names
      ++ lib.optionals (tunnel.admin.certificateFile != null) [
        "--admin-cert=${credentialPath tunnel "admin-certificate"}"
        "--admin-key=${credentialPath tunnel "admin-key"}"
      ]
      ++ given "admin-proxy" tunnel.admin.proxy
    )
    ++ given "log-level" tunnel.logLevel
    ++ tunnel.extraArgs;

  unit = tunnel: {
    description = "wontun tunnel ${tunnel.name} on ${tunnel.interface}";
    wantedBy = [ "multi-user.target" ];
    # It waits for no network: it goes on until there is one. This makes it stop before the network does.
    after = [ "network.target" ];
    # An address or a device that comes later is worth trying again.
    startLimitIntervalSec = 0;
    # Other peers are no reason to disturb those that stay.
    reloadTriggers = lib.optional (isDeclared tunnel) (configuration tunnel);

    serviceConfig = {
      # It says when it is there, when it reads its file again (SIGHUP), how it is, and that each worker is alive.
      Type = "notify-reload";
      NotifyAccess = "main";
      WatchdogSec = 30;
      ExecStart = utils.escapeSystemdExecArgs ([ (lib.getExe tunnel.package) ] ++ arguments tunnel);
      Restart = "on-failure";
      RestartSec = 1;
      # Wrong usage, wrong configuration, a missing privilege: no restart mends them.
      RestartPreventExitStatus = [
        2
        77
        78
      ];

      # An ordinary user with one capability. With PrivateUsers that would count for nothing.
      DynamicUser = true;
      # The same for all instances, which share the folders.
      User = "wontun";
      AmbientCapabilities = [ "CAP_NET_ADMIN" ];
      CapabilityBoundingSet = [ "CAP_NET_ADMIN" ];
      NoNewPrivileges = true;
      RestrictSUIDSGID = true;
      UMask = "0077";

      # A server's file, which it reads again on a reload; credentials and root's files it could not. Control sockets.
      StateDirectory = "wontun";
      StateDirectoryMode = "0700";
      RuntimeDirectory = "wontun";
      RuntimeDirectoryMode = "0700";
      RuntimeDirectoryPreserve = true;

      # One device. PrivateDevices would hide it.
      DevicePolicy = "closed";
      DeviceAllow = [ "/dev/net/tun rw" ];

      # UDP, rtnetlink; the journal, the health check and the resolver process talk over unix sockets.
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_INET6"
        "AF_NETLINK"
        "AF_UNIX"
      ];

      # wontun drops capabilities itself, hence capset, which is one of @privileged, and confines itself further.
      SystemCallArchitectures = "native";
      SystemCallErrorNumber = "EPERM";
      SystemCallFilter = [
        "@system-service"
        "~@privileged @resources"
        "capset seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"
      ];

      ProtectSystem = "strict";
      ProtectHome = true;
      PrivateTmp = true;
      PrivateIPC = true;
      PrivateMounts = true;
      ProtectProc = "invisible";
      ProcSubset = "pid";
      ProtectClock = true;
      ProtectControlGroups = true;
      ProtectHostname = true;
      ProtectKernelLogs = true;
      ProtectKernelModules = true;
      ProtectKernelTunables = true;

      LockPersonality = true;
      MemoryDenyWriteExecute = true;
      RestrictNamespaces = true;
      RestrictRealtime = true;
      KeyringMode = "private";
      LimitCORE = 0;
      # A worker a core, at most 256; the log's writer; the process that looks up names.
      TasksMax = 320;
    }
    // lib.optionalAttrs (credentials tunnel != [ ]) {
      LoadCredential = map (
        credential: "${credential.id}:${lib.replaceStrings [ "%" ] [ "%%" ] credential.path}"
      ) (credentials tunnel);
    };
  };

  keyFile = types.strMatching "/[^[:cntrl:]]+";

  peerModule = {
    options = {
      publicKey = mkOption {
        type = types.strMatching "[A-Za-z0-9+/]{43}=";
        example = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        description = "The peer's public key, in base64.";
      };

      presharedKeyFile = mkOption {
        type = types.nullOr keyFile;
        default = null;
        example = "/run/keys/wontun-phone";
        description = "File of root's with the key that is shared with this peer besides.";
      };

      allowedIPs = mkOption {
        type = types.listOf (types.strMatching "[0-9A-Fa-f:.]+(/[0-9]{1,3})?");
        default = [ ];
        example = [ "10.8.0.2/32" ];
        description = "What the peer may send from and gets sent to.";
      };

      endpoint = mkOption {
        type = types.nullOr (types.strMatching "[^[:space:]#]+:[0-9]{1,5}");
        default = null;
        example = "vpn.example.com:51820";
        description = "Where the peer is; `null` if it makes itself known.";
      };

      persistentKeepalive = mkOption {
        type = types.nullOr (types.ints.between 1 65535);
        default = null;
        example = 25;
        description = "Seconds after which a silent link gets a keepalive; `null` for never.";
      };
    };
  };

  tunnelModule =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          readOnly = true;
          internal = true;
          description = "The tunnel's name.";
        };

        enable = mkOption {
          type = types.bool;
          default = true;
          description = "Whether to run this tunnel.";
        };

        package = mkOption {
          type = types.package;
          default = self.packages.${pkgs.stdenv.hostPlatform.system}.wontun;
          defaultText = lib.literalMD "the static binary of wontun's flake";
          description = "The wontun to run.";
        };

        peer = mkOption {
          type = types.nullOr (
            types.strMatching "[A-Za-z0-9_.-]+(:[0-9]{1,5})?|\\[[^][[:space:]]+](:[0-9]{1,5})?|[0-9A-Fa-f:.]+"
          );
          default = null;
          example = "vpn.example.com:19988";
          description = ''
            The server to be a plain client of: a name, an IPv4 address or an `[IPv6]` address, with or without the UDP
            port (19988). A name is looked up again until it resolves, and again while the server is silent.
            `null`: with {option}`plain`, be the server.
          '';
        };

        privateKeyFile = mkOption {
          type = types.nullOr keyFile;
          default = null;
          example = "/run/keys/wontun";
          description = ''
            File of root's with this side's private key, as `wontun genkey` prints it; a credential of the service's.
            With it the tunnel is WireGuard with these {option}`peers`, or a server if {option}`endpoint` is set.
          '';
        };

        plain = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether the tunnel is a plain one, which neither encrypts nor authenticates anything: a server, or with
            {option}`peer` a client. For labs and trusted wires only.
          '';
        };

        peers = mkOption {
          type = types.listOf (types.submodule peerModule);
          default = [ ];
          description = ''
            The peers of a WireGuard tunnel. Another list is read by the running tunnel without disturbing those peers
            that stay; other preshared keys start it again.
          '';
        };

        endpoint = mkOption {
          type = types.nullOr (types.strMatching "[^[:space:]#]+");
          default = null;
          example = "vpn.example.com";
          description = ''
            The name or address by which clients find this host: be a WireGuard server, whose key and clients are in
            `/var/lib/wontun`. `wontun peer add NAME --dir /var/lib/wontun` adds a client. Without a port it is 51820.
          '';
        };

        nat = mkOption {
          type = types.bool;
          default = config.endpoint != null;
          defaultText = lib.literalMD "whether {option}`endpoint` is set";
          description = ''
            Whether the peers of a WireGuard tunnel are let out to the rest of the world, with this host's address. It
            turns forwarding on in {option}`boot.kernel.sysctl`, which the service may not. A host that has its IPv6
            default route from router advertisements needs `net.ipv6.conf.<card>.accept_ra = 2` then.
          '';
        };

        interface = mkOption {
          # What the kernel takes literally and needs no quoting anywhere.
          type = types.addCheck (types.strMatching "[A-Za-z0-9_.-]{1,15}") (
            text:
            !lib.elem text [
              "."
              ".."
            ]
          );
          default = name;
          defaultText = lib.literalMD "the tunnel's name";
          description = "Name of the TUN interface, 1 to 15 characters.";
        };

        addresses = mkOption {
          type = types.listOf (types.strMatching "[0-9A-Fa-f:.]+(/[0-9]{1,3})?");
          default = [ ];
          example = [
            "10.8.0.1/24"
            "fd00:8::1/64"
          ];
          description = ''
            Addresses of the interface, IPv4 or IPv6, with their prefix lengths.
            Empty: `10.8.0.1/24` for a plain server, `10.8.0.3/24` for its client; none with {option}`privateKeyFile`.
          '';
        };

        port = mkOption {
          type = types.nullOr types.port;
          default = null;
          example = 19988;
          description = ''
            UDP port to bind, 1024 or above. `null`: 19988, and for a client another when that is taken; for WireGuard
            with {option}`endpoint` that one's or 51820, else any.
          '';
        };

        listen = mkOption {
          type = types.listOf (types.strMatching "[0-9A-Fa-f:.]+");
          default = [ ];
          example = [ "192.0.2.1" ];
          description = "Local addresses to listen on. Empty: all, of both families.";
        };

        mtu = mkOption {
          type = types.nullOr (types.ints.between 68 65527);
          default = null;
          example = 1412;
          description = ''
            MTU of the interface in bytes: the path's less 28, over IPv6 less 48. Give both sides the same.
            `null`: what fits a path of 1500 bytes, 1472 or 1452. For WireGuard the path's less 80, as by default.
          '';
        };

        keepalive = mkOption {
          type = types.ints.u16;
          default = 25;
          description = ''
            Seconds between two `hello?` of a client that was answered, 0 for none. A server lets a client that was
            silent for three of them be replaced, with 0 never. Give both sides the same.
          '';
        };

        configure = mkOption {
          type = types.bool;
          default = true;
          description = ''
            Whether wontun sets the interface's addresses and MTU and brings it up. Otherwise that is for you
            to do, with systemd-networkd for instance.
          '';
        };

        openFirewall = mkOption {
          type = types.bool;
          default = false;
          description = ''
            Whether to let the tunnel's UDP port in. A server needs it, a client does not.
            What comes *out* of the tunnel is for {option}`networking.firewall.interfaces.<interface>` to let in.
          '';
        };

        logLevel = mkOption {
          type = types.enum [
            "off"
            "error"
            "warn"
            "info"
            "debug"
            "trace"
          ];
          default = "info";
          description = ''
            The least serious message that goes to the journal. `debug` names each reason to drop a packet and the
            peer's addresses, `trace` tells every packet.
          '';
        };

        admin = {
          enable = mkOption {
            type = types.bool;
            default = false;
            description = ''
              Whether a server has its admin page, at its addresses in the tunnel and at 127.0.0.1.
              `wontun admin link` prints a link for the first visit.
            '';
          };

          addresses = mkOption {
            type = types.listOf (types.strMatching "([0-9.]+|\\[[0-9A-Fa-f:.]+]):[0-9]{1,5}");
            default = [ ];
            example = [ "0.0.0.0:8443" ];
            description = ''
              Addresses outside of the tunnel, with their TCP ports (1024 or above), at which the page is served by TLS,
              or to the proxy. The firewall is not opened for them.
            '';
          };

          names = mkOption {
            type = types.listOf (types.strMatching "[A-Za-z0-9.:-]+");
            default = [ ];
            example = [ "vpn.example.com" ];
            description = "Names and addresses by which browsers reach the page from outside.";
          };

          certificateFile = mkOption {
            type = types.nullOr keyFile;
            default = null;
            example = "/var/lib/acme/vpn.example.com/fullchain.pem";
            description = ''
              File with the certificate and its chain, a credential of the service's: restart the service when it is
              replaced. `null`: a self-signed certificate is made.
            '';
          };

          keyFile = mkOption {
            type = types.nullOr keyFile;
            default = null;
            example = "/var/lib/acme/vpn.example.com/key.pem";
            description = "File of root's with the key of that certificate.";
          };

          proxy = mkOption {
            type = types.nullOr (types.strMatching "[0-9A-Fa-f:.]+");
            default = null;
            example = "127.0.0.1";
            description = ''
              Address of a proxy that serves `names` by HTTPS, whose `X-Forwarded-For` is believed.
            '';
          };
        };

        extraArgs = mkOption {
          type = types.listOf types.str;
          default = [ ];
          example = [ "--log-target=stderr" ];
          description = "More arguments for wontun, after those that the other options make.";
        };
      };
    };
in
{
  options.services.wontun.tunnels = mkOption {
    type = types.attrsOf (types.submodule tunnelModule);
    default = { };
    example = {
      tun0 = {
        endpoint = "vpn.example.com";
        openFirewall = true;
      };
      lab = {
        plain = true;
        peer = "server.example.com";
        addresses = [ "10.9.0.2/24" ];
      };
    };
    description = ''
      Tunnels of this host by name, each a service `wontun@<name>.service`. They are WireGuard with `endpoint`, or with
      `privateKeyFile` and `peers`. Those with `plain` or `peer` are not encrypted: use those on trusted wires only.
    '';
  };

  config = lib.mkIf (tunnels != { }) {
    assertions = lib.concatMap perTunnel all ++ lib.concatMap perPair pairs;

    boot.kernelModules = [ "tun" ];

    # For `wontun health`.
    environment.systemPackages = lib.unique (map (tunnel: tunnel.package) all);

    networking = {
      firewall.allowedUDPPorts = map portOf (
        lib.filter (tunnel: tunnel.openFirewall && portOf tunnel != null) all
      );
      # wontun gives the interface its addresses; nobody else is to ask for some through the tunnel.
      dhcpcd.denyInterfaces = map (tunnel: tunnel.interface) all;
      networkmanager.unmanaged = map (tunnel: "interface-name:${tunnel.interface}") all;
    };

    # The service's user sets the name servers of a tunnel's link in systemd-resolved.
    security.polkit = lib.mkIf config.services.resolved.enable {
      enable = lib.mkDefault true;
      extraConfig = builtins.readFile ../scripts/systemd/50-wontun.rules;
    };

    boot.kernel.sysctl = lib.mkIf (lib.any (tunnel: tunnel.nat) all) {
      "net.ipv4.ip_forward" = lib.mkDefault 1;
      "net.ipv6.conf.all.forwarding" = lib.mkDefault 1;
    };

    # Copied, not linked: the path stays the same, and so does the file behind it for whoever may open nothing else.
    environment.etc = lib.mkMerge (
      map (tunnel: {
        ${configurationFile tunnel} = {
          text = configuration tunnel;
          mode = "0444";
        };
      }) (lib.filter isDeclared all)
    );

    systemd.services = lib.mapAttrs' (
      name: tunnel: lib.nameValuePair "wontun@${name}" (unit tunnel)
    ) tunnels;
  };
}
