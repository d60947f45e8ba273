#!/usr/bin/env python3
"""Holds the workspace against its rules: who may depend on whom, licences, what cores may not name.

Reads `cargo metadata` and the sources; installs nothing. Exits 1 with one line per breach.
"""

import json
import pathlib
import re
import subprocess
import sys

EDGES = {
    "tinykv-keys": set(),
    "tinykv-env": set(),
    "tinykv-sync": set(),
    "tinykv-raft": set(),
    "tinykv-proto": set(),
    "tinykv-lsm": {"env", "sync"},
    "tinykv-wal": {"env", "raft"},
    "tinykv-engine": {"env", "sync", "wal", "lsm", "raft"},
    "tinykv-replica": {"raft", "wal", "lsm", "keys"},
    "tinykv-node": {"replica", "engine", "wal", "lsm", "raft", "env", "proto"},
    "tinykv-client": {"proto", "keys"},
}
BELOW_NODE = {"node"} | EDGES["tinykv-node"]
EDGES["tinykv-store"] = BELOW_NODE | {"keys", "client"}
EDGES["tinykv-placement"] = BELOW_NODE | {"keys"}
EDGES["tinykv-ctl"] = {"client", "proto", "keys", "store", "placement"}
for may_depend in EDGES.values():
    may_depend.add("mutants")
EDGES["tinykv-mutants"] = set()
EDGES["tinykv-tests"] = {name.removeprefix("tinykv-") for name in EDGES} | {"ctl"}

# Code of the store once more, on shuttle's locks instead of real ones: nobody else may use these.
EDGES["tinykv-sync-shuttle"] = set()
EDGES["tinykv-lsm-shuttle"] = {"env", "mutants", "sync-shuttle"}
EDGES["tinykv-engine-shuttle"] = {"env", "wal", "raft", "sync-shuttle", "lsm-shuttle"}

# What may not even be reached through others (normal and build dependencies).
UNREACHABLE = {
    "tinykv-keys": {"tokio", "tonic", "prost"},
    "tinykv-raft": {"tokio", "tonic", "prost"},
    "tinykv-replica": {"tokio", "tonic", "prost"},
    "tinykv-lsm": {"tokio", "tonic", "prost"},
    "tinykv-wal": {"tokio", "tonic", "prost"},
    "tinykv-engine": {"tokio", "tonic", "prost"},
}

PURE = r"std::fs|std::thread|std::net|Instant::now|SystemTime|\bHashMap\b|\bHashSet\b|\brand::"
SHELLED = r"std::fs|std::thread::(spawn|sleep)|std::net|Instant::now|SystemTime|\brand::"
BANNED = {
    "proto/keys/src": PURE,
    "store/raft/src": PURE,
    "store/replica/src": PURE,
    "store/lsm/src": SHELLED,
    "store/wal/src": SHELLED,
    "store/engine/src": SHELLED,
}

LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}


def allowed(expression):
    """Evaluates an SPDX expression: OR needs one side, AND both."""
    expression = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = re.sub(r"\s+WITH\s+", "~WITH~", expression).split()

    def either():
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one():
        token = tokens.pop(0)
        if token == "(":
            value = either()
            tokens.pop(0)
            return value
        return token.replace("~WITH~", " WITH ") in LICENCES

    return either()


def reachable(start, resolve):
    seen, queue = set(), [start]
    while queue:
        for dep in resolve[queue.pop()]["deps"]:
            if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]) and dep["pkg"] not in seen:
                seen.add(dep["pkg"])
                queue.append(dep["pkg"])
    return seen


def main():
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True))[1]
    metadata = json.loads(subprocess.check_output(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", host]))
    packages = {package["id"]: package for package in metadata["packages"]}
    resolve = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    breaches = []
    for member in metadata["workspace_members"]:
        name = packages[member]["name"]
        if name not in EDGES:
            breaches.append(f"{name}: not in the table of crate edges")
            continue
        for dependency in packages[member]["dependencies"]:
            other = dependency["name"]
            if other.startswith("tinykv-") and other.removeprefix("tinykv-") not in EDGES[name]:
                breaches.append(f"{name} may not depend on {other}")
        for feature, enables in packages[member]["features"].items():
            if "tinykv-mutants/planted" in enables and (name, feature) != ("tinykv-tests", "mutants"):
                breaches.append(f"{name}: its feature {feature} may not plant mutants")
        if name == "tinykv-mutants" and resolve[member]["features"]:
            breaches.append("mutants can be planted although nobody asked for it")
        names = {packages[package]["name"] for package in reachable(member, resolve)}
        if "shuttle" in names and not name.endswith("-shuttle"):
            breaches.append(f"{name} may not run on shuttle's locks")
        for other in sorted(names & UNREACHABLE.get(name, set())):
            breaches.append(f"{name} may not reach {other}")
    for package in packages.values():
        if not allowed(package["license"] or "none"):
            breaches.append(f"{package['name']}: licence {package['license']} is not on the list")
    for folder, pattern in BANNED.items():
        for path in sorted(pathlib.Path(folder).rglob("*.rs")):
            if "tests" in path.parts or path.name.startswith("tests"):
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                code = line.split("//")[0]
                if re.search(pattern, code):
                    breaches.append(f"{path}:{number}: not in a core: {line.strip()}")
    for breach in breaches:
        print(breach)
    print(f"{len(metadata['workspace_members'])} crates, {len(packages)} packages, "
          f"{len(breaches)} breaches")
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
