"""Compares files of the project that say the same thing twice; scripts/check-nix.sh calls it.

    nix_consistency.py lock INPUTS.json flake.lock
    nix_consistency.py image CONFIG.json Dockerfile VERSION

INPUTS.json and CONFIG.json are what Nix evaluates the inputs of flake.nix and nix/image-config.nix to. Prints each
difference, and ends with 1 if there is one.
"""

import json
import re
import sys

DURATION = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def lock_differences(inputs: dict, lock: dict) -> list[str]:
    """What in flake.lock does not follow from the inputs in flake.nix."""
    found = []
    nodes = lock["nodes"]
    root = lock["root"]
    if lock["version"] != 7:
        found.append(f"flake.lock has version {lock['version']}, expected 7")
    locked_inputs = nodes[root].get("inputs", {})
    if set(locked_inputs) != set(inputs):
        found.append(f"flake.nix has the inputs {sorted(inputs)}, flake.lock has {sorted(locked_inputs)}")
    # An input of an input would be one more thing to trust.
    others = set(nodes) - {root} - set(locked_inputs.values())
    if others:
        found.append(f"flake.lock has nodes that flake.nix does not name: {sorted(others)}")
    for name in sorted(set(inputs) & set(locked_inputs)):
        match = re.fullmatch(r"github:([^/]+)/([^/]+)/([^/?]+)", inputs[name]["url"])
        if not match:
            found.append(f"flake.nix: {inputs[name]['url']} is not github:OWNER/REPOSITORY/BRANCH")
            continue
        wanted = dict(zip(("owner", "repo", "ref"), match.groups()), type="github")
        original, locked = (nodes[locked_inputs[name]][part] for part in ("original", "locked"))
        if original != wanted:
            found.append(f"{name}: flake.nix says {wanted}, flake.lock {original}")
        for part in ("type", "owner", "repo"):
            if locked.get(part) != wanted[part]:
                found.append(f"{name}: flake.lock locks the {part} {locked.get(part)}, not {wanted[part]}")
        if not re.fullmatch(r"[0-9a-f]{40}", locked.get("rev", "")):
            found.append(f"{name}: flake.lock locks no commit")
        if not re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked.get("narHash", "")):
            found.append(f"{name}: flake.lock has no hash of the tree")
    return found


def nanoseconds(text: str) -> int:
    """A duration such as 10s or 1m30s, as Docker writes it."""
    parts = re.findall(r"([0-9]+)(ns|us|ms|s|m|h)", text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise SystemExit(f"Dockerfile: {text} is no duration")
    return sum(int(number) * DURATION[unit] for number, unit in parts)


def docker_config(text: str, version: str) -> dict:
    """The configuration that a Dockerfile's last stage gives an image, of those instructions that ours uses."""
    config: dict = {}
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        instruction, rest = instruction.upper(), rest.strip()
        match instruction:
            case "" | "ARG" | "COPY":
                pass
            case "FROM":
                config = {"Labels": {}, "ExposedPorts": {}}
            case "LABEL":
                for key, value in re.findall(r'(\S+?)=("(?:[^"\\]|\\.)*")', rest):
                    config["Labels"][key] = json.loads(value).replace("${VERSION}", version)
            case "EXPOSE":
                config["ExposedPorts"].update({port: {} for port in rest.split()})
            case "STOPSIGNAL":
                config["StopSignal"] = rest
            case "ENV":
                config.setdefault("Env", []).append(rest)
            case "ENTRYPOINT":
                config["Entrypoint"] = json.loads(rest)
            case "HEALTHCHECK":
                options, _, command = rest.partition("CMD ")
                given = dict(option.removeprefix("--").split("=", 1) for option in options.split())
                config["Healthcheck"] = {
                    "Test": ["CMD", *json.loads(command)],
                    "Interval": nanoseconds(given.pop("interval", "30s")),
                    "Timeout": nanoseconds(given.pop("timeout", "30s")),
                    "StartPeriod": nanoseconds(given.pop("start-period", "0s")),
                    "Retries": int(given.pop("retries", "3")),
                }
                if given:
                    raise SystemExit(f"Dockerfile: {sorted(given)} of HEALTHCHECK is not known here")
            case _:
                raise SystemExit(f"Dockerfile: the instruction {instruction} is not known here")
    return config


def image_differences(nix: dict, docker: dict) -> list[str]:
    """Where Nix's image and the Dockerfile's would differ."""
    return [
        f"{key}: nix/image-config.nix says {nix.get(key)}, the Dockerfile {docker.get(key)}"
        for key in sorted(nix.keys() | docker.keys())
        if nix.get(key) != docker.get(key)
    ]


def main(arguments: list[str]) -> int:
    def read(path: str) -> str:
        with open(path, encoding="utf-8") as file:
            return file.read()

    match arguments:
        case ["lock", inputs, lock]:
            differences = lock_differences(json.loads(read(inputs)), json.loads(read(lock)))
        case ["image", config, dockerfile, version]:
            differences = image_differences(json.loads(read(config)), docker_config(read(dockerfile), version))
        case _:
            raise SystemExit(__doc__)
    for difference in differences:
        print(difference, file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
