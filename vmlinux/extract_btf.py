# SPDX-License-Identifier: Apache-2.0
"""Writes the type information (BTF) that lies inside a kernel image to a file.

    python3 vmlinux/extract_btf.py VMLINUZ OUT
"""

import struct
import subprocess
import sys

BTF_HEADER = struct.pack("<HBBI", 0xEB9F, 1, 0, 24)


def main(image_path, out_path):
    with open(image_path, "rb") as file:
        image = file.read()
    kernel = payload(image) if image[0x202:0x206] and image[0x202:0x206] == b"HdrS" else image
    with open(out_path, "wb") as file:
        file.write(btf(kernel))


def payload(image):
    """The compressed kernel inside an x86 bzImage, unpacked (Documentation/arch/x86/boot.rst)."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    packed = image[start : start + length - 4]  # the kernel's unpacked size ends it
    if not packed.startswith(b"\x28\xb5\x2f\xfd"):
        sys.exit("error: the kernel image is not packed with zstd")
    return subprocess.run(["zstd", "-dcq"], input=packed, capture_output=True, check=True).stdout


def btf(kernel):
    """The largest BTF blob: the kernel's own, should there be others."""
    found = b""
    at = kernel.find(BTF_HEADER)
    while at >= 0:
        type_off, type_len, str_off, str_len = struct.unpack_from("<IIII", kernel, at + 8)
        size = 24 + max(type_off + type_len, str_off + str_len)
        if str_off == type_len and at + size <= len(kernel) and size > len(found):
            found = kernel[at : at + size]
        at = kernel.find(BTF_HEADER, at + 1)
    if not found:
        sys.exit("error: the kernel image holds no BTF")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
