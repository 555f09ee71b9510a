#!/usr/bin/env python3
"""Leaves in a built filter the exports that it needs, and no others.

Envoy calls whatever callback a module exports. The SDK exports all of proxy-wasm, empty ones too, and
an empty `proxy_on_downstream_data` still costs a call into the VM for every read of every connection.

    trim-exports.py MODULE.wasm

rewrites the export section in place. Running it again changes nothing. A module that lacks one of the
exports below, or is not laid out as WebAssembly 1.0 says, is left as it is, with an error.
"""

import os
import sys

KEEP = {
    "memory",
    "malloc",
    "_initialize",
    "proxy_abi_version_0_2_1",
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_new_connection",
    # Where a connection is forgotten, lest a later snapshot cut it. The second comes late, but always.
    "proxy_on_downstream_connection_close",
    "proxy_on_delete",
}
HEADER = b"\0asm\1\0\0\0"
EXPORTS = 7


def number(data, at):
    """An unsigned LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def encoded(value):
    """A number in unsigned LEB128."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def trimmed_section(section):
    """The export section with the entries of KEEP, in their order."""
    count, at = number(section, 0)
    kept, seen = [], set()
    for _ in range(count):
        start = at
        length, at = number(section, at)
        name = section[at : at + length].decode()
        at += length + 1  # the kind
        _, at = number(section, at)
        if name in KEEP:
            kept.append(section[start:at])
            seen.add(name)
    if at != len(section):
        raise ValueError("its export section has bytes left over")
    if missing := KEEP - seen:
        raise ValueError(f"it does not export {', '.join(sorted(missing))}")
    return encoded(len(kept)) + b"".join(kept)


def trimmed(module):
    """The module with its export section trimmed."""
    if not module.startswith(HEADER):
        raise ValueError("it is no WebAssembly 1 module")
    out, at, found = bytearray(HEADER), len(HEADER), 0
    while at < len(module):
        kind = module[at]
        length, start = number(module, at + 1)
        at = start + length
        if at > len(module):
            raise ValueError("a section ends beyond the file")
        section = module[start:at]
        if kind == EXPORTS:
            found += 1
            section = trimmed_section(section)
        out += bytes([kind]) + encoded(len(section)) + section
    if found != 1:
        raise ValueError(f"it has {found} export sections")
    return bytes(out)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: trim-exports.py MODULE.wasm")
    path = sys.argv[1]
    try:
        with open(path, "rb") as file:
            module = trimmed(file.read())
        # A rename, because cargo keeps a hard link to the file, and others may be reading it.
        with open(f"{path}.trimmed", "wb") as file:
            file.write(module)
        os.chmod(file.name, 0o755)
        os.replace(file.name, path)
    except (OSError, ValueError, IndexError) as error:
        sys.exit(f"trim-exports: {path}: {error}")


main()
